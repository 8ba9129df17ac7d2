"""Which values a program has for its decisions alone, and which layers of gates' heads are large."""

from convgate.engine.program.convolutions import Conv
from convgate.engine.program.operation import Operation
from convgate.engine.program.program import Program
from convgate.engine.program.references import decides

__all__ = ["LARGE_HEAD", "is_large_layer", "serving_decisions"]

LARGE_HEAD = 1 << 16
"""Weights from which on a layer of a gate's head is large: 256 KB in float32, which come from memory in every call.
Those of smaller layers stay in the caches, where float32 is as fast as what is less precise."""


def serving_decisions(program: Program) -> frozenset[str]:
    """The values that serve nothing but decisions: what gates' heads compute."""
    wanted = set(program.outputs)
    for operation in reversed(program.operations):
        if operation.output in wanted or (not operation.output and not decides(operation)):
            wanted |= set(operation.inputs)
    return frozenset(op.output for op in program.operations if not decides(op) and op.output not in wanted)


def is_large_layer(program: Program, operation: Operation, least: int | None) -> bool:
    """Whether an operation is a convolution with at least that many weights; None: none is."""
    return least is not None and type(operation) is Conv and program.arrays[operation.weight].size >= least
