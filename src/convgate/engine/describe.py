"""A program as a table that people can read."""

import io
from typing import Any

from convgate.engine.program import Complete, Conv, Decide, Operation, Program

__all__ = ["describe"]

_GATES = {"positions": "positions", "in_channels": "inputs", "out_channels": "outputs", "gate": "gate"}


def describe(program: Program) -> str:
    """One line per operation: what it is, reads and writes, its gates, and its MACs when every gate is open."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    macs = {id(op): _macs(program, op) for op in program.operations if isinstance(op, Conv | Complete)}
    title = f"{len(program.operations)} operations, {len(program.gates)} gates, {sum(macs.values()):,} MACs"
    table = Table("writes", "operation", "reads", "shape", "gates", "MACs", title=title, box=box.SIMPLE_HEAD)
    for operation in program.operations:
        gates = [f"{said}: {name}" for key, said in _GATES.items() if (name := getattr(operation, key, ""))]
        shape = "" if isinstance(operation, Decide) else _shape(program, operation.output)
        spent = f"{macs[id(operation)]:,}" if id(operation) in macs else ""
        reads = ", ".join(operation.inputs)
        table.add_row(operation.output, _what(program, operation), reads, shape, "; ".join(gates), spent)
    text = io.StringIO()
    Console(file=text, width=180, color_system=None).print(table)
    return text.getvalue()


def _shape(program: Program, name: str) -> str:
    value = program.value(name)
    return f"{value.channels}x{value.height}x{value.width}"


def _what(program: Program, operation: Operation) -> str:
    words = [type(operation).__name__.lower()]
    kernel: Any = getattr(operation, "kernel", None)
    if isinstance(operation, Conv | Complete):
        kernel = program.arrays[operation.weight].shape[2:]
    if isinstance(operation, Conv) and operation.groups > 1:
        words.append(f"groups {operation.groups}")
    if kernel:
        words.insert(1, f"{kernel[0]}x{kernel[1]}")
    stride = getattr(operation, "stride", (1, 1))
    if stride != (1, 1):
        words.append(f"stride {stride[0]}")
    activation = getattr(operation, "activation", "none")
    return " ".join(words) + ("" if activation == "none" else f", {activation}")


def _macs(program: Program, conv: Conv | Complete) -> int:
    out = program.value(conv.output)
    return out.height * out.width * int(program.arrays[conv.weight].size)
