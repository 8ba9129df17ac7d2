"""Which operations read and write float32, which integers, and where a scale must stay."""

from functools import singledispatch

from convgate.engine.check.checker import Checker
from convgate.engine.program import (
    Concat,
    Dequantize,
    Element,
    IntegerAdd,
    IntegerComplete,
    IntegerConv,
    IntegerConvToFloat,
    IntegerConvToSums,
    IntegerDecide,
    IntegerMean,
    Lookup,
    Mask,
    Operation,
    Pad,
    Pick,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    Quantize,
    Reshape,
    Slice,
    Value,
)

__all__ = ["check_elements", "moves"]

_FLOATS = (Element.FLOAT32, Element.BFLOAT16)
_MOVES = (Concat, Mask, Pad, Pick, PixelShuffle, PixelUnshuffle, Pool, Reshape, Slice)


def moves(op: Operation) -> bool:
    """Whether an operation only moves or chooses elements, or writes zeros, and so is defined on integers, too."""
    if isinstance(op, Pool):
        return op.kind == "max"
    if isinstance(op, Pad):
        return op.mode != "constant" or op.value == 0
    return isinstance(op, _MOVES)


@singledispatch
def check_elements(op: Operation, c: Checker, inputs: list[Value], out: Value | None) -> None:
    """Raise `ProgramError` unless what an operation reads and writes is of elements that it takes."""
    values = [*inputs, *([out] if out else [])]
    if all(value.element in _FLOATS for value in values):
        return
    kinds = {(value.element, value.scale) for value in values}
    if len(kinds) == 1 and moves(op) and values[0].element.is_byte:
        return
    for value in values:
        what = "one element type and scale for all that it reads and writes" if moves(op) else "float32"
        c.require(value.element is Element.FLOAT32, f"takes {what}, and '{value.name}' is {value.element}")


@check_elements.register
def _quantize(op: Quantize, c: Checker, inputs: list[Value], out: Value) -> None:
    _elements(c, inputs, integers=False)
    _elements(c, [out], integers=True)


@check_elements.register
def _to_float(op: Dequantize | IntegerConvToFloat | IntegerMean, c: Checker, inputs: list[Value], out: Value) -> None:
    _elements(c, inputs, integers=True)
    _elements(c, [out], integers=False)


@check_elements.register
def _to_sums(op: IntegerConvToSums, c: Checker, inputs: list[Value], out: Value) -> None:
    _elements(c, inputs, integers=True)
    _sums(c, out)


@check_elements.register
def _decides(op: IntegerDecide, c: Checker, inputs: list[Value], out: None) -> None:
    for value in inputs:
        _sums(c, value)


@check_elements.register
def _completes(op: IntegerComplete, c: Checker, inputs: list[Value], out: Value) -> None:
    for value in inputs[1:2]:
        _sums(c, value)
    _elements(c, [*inputs[:1], *inputs[2:], out], integers=True)


def _sums(c: Checker, value: Value) -> None:
    c.require(value.element is Element.INT32, f"partial sums are int32, and '{value.name}' is {value.element}")


@check_elements.register
def _integers(op: IntegerAdd | IntegerConv | Lookup, c: Checker, inputs: list[Value], out: Value) -> None:
    _elements(c, [*inputs, out], integers=True)


def _elements(c: Checker, values: list[Value], *, integers: bool) -> None:
    for value in values:
        what = "integers of 8 bits" if integers else "float32"
        fits = value.element.is_byte if integers else value.element is Element.FLOAT32
        c.require(fits, f"takes {what}, and '{value.name}' is {value.element}")
