"""Rules for operations on 8-bit integers: among them, that no sum leaves an int32, in whatever order it is formed."""

from typing import Any

import numpy as np

from convgate.engine.check.checker import Checker
from convgate.engine.check.rules import (
    check_completion,
    check_convolution,
    check_decision,
    keeps_shape,
    rule,
    spreads,
)
from convgate.engine.program import (
    Conv,
    Dequantize,
    Element,
    GateKind,
    IntegerAdd,
    IntegerComplete,
    IntegerConv,
    IntegerConvToFloat,
    IntegerConvToSums,
    IntegerDecide,
    IntegerMean,
    Lookup,
    Quantize,
    Value,
)

__all__ = ["MOST_MULTIPLIER", "MOST_SHIFT"]

MOST_MULTIPLIER = (1 << 15) - 1
"""Multipliers have 15 bits and no sign."""

MOST_SHIFT = 46
"""A product of an int32 and a multiplier, shifted by as much, is 0 or -1."""

_MOST_AVERAGED = 1 << 23
"""8-bit integers, whose sum an int32 holds."""


@rule.register
def _quantize(op: Dequantize | Quantize, c: Checker, inputs: list[Value], out: Value) -> None:
    keeps_shape(c, inputs, out)


@rule.register
def _lookup(op: Lookup, c: Checker, inputs: list[Value], out: Value) -> None:
    keeps_shape(c, inputs, out)
    c.array(op.table, 256, of=_dtype(out))
    low, high = out.element.limits
    table = c.program.arrays[op.table]
    c.require(low <= table.min() and table.max() <= high, f"a table with entries outside {low} .. {high}")


@rule.register
def _mean(op: IntegerMean, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    c.require(inputs[0].channels == out.channels, "changes the number of channels")
    c.require(not op.mask or op.mask in c.gates, f"gate '{op.mask}' does not exist")
    c.extents(*(cells + 1 for cells in op.grid))
    most = _longest(inputs[0].height, out.height) * _longest(inputs[0].width, out.width)
    c.require(most <= _MOST_AVERAGED, f"a mean of more than {_MOST_AVERAGED:,} integers")


def _longest(size: int, cells: int) -> int:
    """At least the longest of so many cells."""
    return size if cells == 1 else size // cells + 2


@rule.register
def _add(op: IntegerAdd, c: Checker, inputs: list[Value], out: Value) -> None:
    spreads(c, inputs, out)
    c.require(len(op.multipliers) == len(op.shifts) == 2, "needs a multiplier and a shift for each of two inputs")
    for pair in zip(op.multipliers, op.shifts, strict=True):
        _brought(c, *pair)
    _clamp(c, op.low, op.high, out)


@rule.register
def _conv(op: IntegerConv, c: Checker, inputs: list[Value], out: Value) -> None:
    check_convolution(op, c, inputs, out, weight=np.int8, bias=np.int32)
    _fit(c, _sums(op, c, inputs[0]))
    _within(c, op.multiplier, out.channels, 0, MOST_MULTIPLIER)
    _within(c, op.shift, out.channels, 1, MOST_SHIFT)
    _brought(c, *op.addend)
    _clamp(c, op.low, op.high, out)


@rule.register
def _conv_to_float(op: IntegerConvToFloat, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    check_convolution(op, c, inputs, out, weight=np.int8, bias=np.int32)
    _fit(c, _sums(op, c, inputs[0]))
    c.array(op.scale, out.channels)


@rule.register
def _conv_to_sums(op: IntegerConvToSums, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    check_convolution(op, c, inputs, out, weight=np.int8, bias=np.int32)
    gates = op.positions or op.in_channels or op.out_channels
    c.require(not gates, f"partial sums with a gate, '{gates}', other than the one that completes them")
    c.largest[out.name] = _fit(c, _sums(op, c, inputs[0]))


@rule.register
def _decide(op: IntegerDecide, c: Checker, inputs: list[Value], out: None) -> None:
    gate = check_decision(op, c, inputs)
    c.require(gate.kind == GateKind.ACTIVATION, f"decides gate '{op.output}', which is {gate.kind}, on partial sums")
    c.array(op.offset, *gate.offset_shape, of=np.int32)
    c.array(op.scale, gate.shape[0])
    c.require(bool((c.program.arrays[op.scale] > 0).all()), f"array '{op.scale}' holds scales that are not above 0")
    c.require(not op.shift, "shifts partial sums by more than their offset")
    begins = np.arange(0, inputs[0].channels, gate.group)
    most = np.add.reduceat(c.largest[inputs[0].name], begins)
    _fit(c, most + np.abs(c.program.arrays[op.offset].ravel().astype(np.int64)))


@rule.register
def _complete(op: IntegerComplete, c: Checker, inputs: list[Value], out: Value) -> None:
    check_completion(op, c, inputs, out, weight=np.int8)
    known = c.largest[inputs[1].name]
    rest = known + _products(c, op.weight, inputs[0])
    for prefix, most in (("", known), ("open_", rest)):
        bias, multiplier, shift = (getattr(op, prefix + name) for name in ("bias", "multiplier", "shift"))
        c.array(bias, out.channels, of=np.int32)
        _fit(c, most + np.abs(c.program.arrays[bias].astype(np.int64)))
        _within(c, multiplier, out.channels, -MOST_MULTIPLIER, MOST_MULTIPLIER)
        _within(c, shift, out.channels, 1, MOST_SHIFT)
    _brought(c, *op.addend)
    _clamp(c, op.low, op.high, out)


def _sums(op: Conv, c: Checker, x: Value) -> np.ndarray:
    """What the magnitude of no sum of a convolution exceeds: int64 [out]."""
    c.require(not op.activation, f"{op.activation} of a convolution of integers, which clamps")
    most = _products(c, op.weight, x)
    if op.bias:
        most += np.abs(c.program.arrays[op.bias].astype(np.int64))
    return most


def _products(c: Checker, name: str, x: Value) -> np.ndarray:
    weight = c.program.arrays[name].reshape(len(c.program.arrays[name]), -1)
    c.require(bool((weight >= -127).all()), f"array '{name}' holds -128")
    # Magnitudes fit into a byte, too; as wide as their sum they would be the most memory that loading takes.
    most: np.ndarray = np.abs(weight).sum(1, dtype=np.int64) * max(map(abs, x.element.limits))
    return most


def _fit(c: Checker, most: np.ndarray) -> np.ndarray:
    c.require(bool((most < 1 << 31).all()), "sums that may leave an int32")
    return most


def _within(c: Checker, name: str, channels: int, least: int, most: int) -> None:
    """Require an int32 array [channels] of numbers within these limits."""
    c.array(name, channels, of=np.int32)
    array = c.program.arrays[name]
    c.require(least <= array.min() and array.max() <= most, f"array '{name}' leaves {least} .. {most}")


def _brought(c: Checker, multiplier: Any, shift: Any) -> None:
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (multiplier, shift))
    fits = whole and 0 <= multiplier <= MOST_MULTIPLIER and 1 <= shift <= MOST_SHIFT
    c.require(fits, f"a multiplier of {multiplier!r} with a shift of {shift!r}")


def _clamp(c: Checker, low: Any, high: Any, out: Value) -> None:
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (low, high))
    least, most = out.element.limits
    c.require(whole and least <= low <= 0 <= high <= most, f"a clamp to {low!r} .. {high!r} for {out.element}")


def _dtype(value: Value) -> Any:
    return np.int8 if value.element is Element.INT8 else np.uint8
