"""Where closed channels hold zeros by themselves, as the program says what each operation writes there."""

from collections.abc import Mapping

from convgate.engine.program import (
    Activate,
    Add,
    Completing,
    Concat,
    Conv,
    Dequantize,
    GateKind,
    IntegerAdd,
    IntegerMean,
    Interpolate,
    Lookup,
    Mask,
    Multiply,
    Operation,
    Pad,
    Pool,
    PoolToGrid,
    PRelu,
    Program,
    Quantize,
    decides,
)
from convgate.onnx_export.tables import keeps_zero

__all__ = ["closed_channels"]

_KEEP = (Dequantize, IntegerMean, Interpolate, Pool, PoolToGrid, PRelu, Quantize)
"""Operations by channel that make zeros of zeros."""


def closed_channels(program: Program) -> Mapping[str, frozenset[str]]:
    """Per value the channel gates of which it is certain that it holds zeros in all channels that they close."""
    kinds = {gate.name: gate.kind for gate in program.gates}
    found: dict[str, frozenset[str]] = {name: frozenset() for name in program.inputs}
    for op in program.operations:
        if not decides(op):
            gates = _closed(op, program, [found[name] for name in op.inputs])
            found[op.output] = frozenset(gate for gate in gates if kinds[gate] == GateKind.CHANNEL)
    return found


def _closed(op: Operation, program: Program, inputs: list[frozenset[str]]) -> frozenset[str]:
    nothing: frozenset[str] = frozenset()
    match op:
        case Conv():
            own = frozenset([op.out_channels]) if op.out_channels else nothing
            return own & inputs[1] if len(inputs) > 1 else own
        case Completing() | Concat():
            return nothing
        case Mask():
            return inputs[0] | {op.gate}
        case Activate() if op.activation.keeps_zero:
            return inputs[0]
        case Add() if op.activation.keeps_zero and _alike(op, program):
            return inputs[0] & inputs[1]
        case IntegerAdd() if _alike(op, program):
            return inputs[0] & inputs[1]
        case Multiply() if _alike(op, program):
            return inputs[0] | inputs[1]
        case Pad() if op.mode != "constant" or op.value == 0:
            return inputs[0]
        case Lookup() if keeps_zero(program, op):
            return inputs[0]
        case _ if isinstance(op, _KEEP):
            return inputs[0]
    return nothing


def _alike(op: Operation, program: Program) -> bool:
    """Whether no input's one channel is spread over several."""
    return len({program.value(name).channels for name in (*op.inputs, op.output)}) == 1
