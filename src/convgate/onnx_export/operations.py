"""`written`: the nodes of an operation, one function for each kind; the other files of this package register them."""

from functools import singledispatch

from convgate.engine.program import Operation, Program, label
from convgate.errors import LoweringError
from convgate.onnx_export.writer import Writer

__all__ = ["check_kinds", "written"]


@singledispatch
def written(op: Operation, w: Writer) -> str:
    """Write an operation's nodes; returns the float tensor that holds its output. Decisions are `masks.decide`'s.

    Raises `LoweringError` for a kind without a form in ONNX.
    """
    raise LoweringError(_message([op]))


def check_kinds(program: Program) -> None:
    """Raise one `LoweringError` that names all operations without a form in ONNX."""
    without = [op for op in program.operations if written.dispatch(type(op)) is written.dispatch(object)]
    if without:
        raise LoweringError(_message(without))


def _message(operations: list[Operation]) -> str:
    named = ", ".join(f"'{label(op)}' ({type(op).__name__})" for op in operations)
    return (
        f"{len(operations)} operation(s) have no form in ONNX: {named}. Steps that PyTorch computes cannot be "
        "exported; compile without fallback to see why they are"
    )
