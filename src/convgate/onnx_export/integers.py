"""Convolutions and sums of 8-bit integers, as floats between DequantizeLinear and QuantizeLinear.

What brings sums to the output's scale, m / 2^s for each channel, is said by the weights' scales: the scale of an output
times m / 2^s is that of the sums, over that of the input it is the weights'.
"""

import numpy as np

from convgate.engine.program import (
    Conv,
    Dequantize,
    IntegerAdd,
    IntegerComplete,
    IntegerConv,
    IntegerConvToFloat,
    IntegerConvToSums,
    Quantize,
    Value,
)
from convgate.onnx_export.activations import clamped
from convgate.onnx_export.convolutions import geometry, open_inputs, whole_weight
from convgate.onnx_export.masks import masked, spread
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__: list[str] = []

_NEARLY = 2.0**-13
"""Multipliers of 15 bits are within this share of the ratio of scales that they stand for."""


@written.register
def _quantize(op: Quantize, w: Writer) -> str:
    return w.read(op.inputs[0])


@written.register
def _dequantize(op: Dequantize, w: Writer) -> str:
    return w.read(op.inputs[0])


@written.register
def _conv(op: IntegerConv, w: Writer) -> str:
    graph, out = w.graph, w.program.value(op.output)
    y = _convolved(op, w, out.scale * np.ldexp(1.0 * w.array(op.multiplier), -w.array(op.shift)))
    if len(op.inputs) > 1:
        y = masked(w, y, out, op.positions, op.out_channels, op.reach)
        y = graph.node("Add", y, _brought(w, op.inputs[1], *op.addend, out), name=f"{op.output}.sum")
        return _clamped(w, y, op.low, op.high, out)
    y = _clamped(w, y, op.low, op.high, out)
    if op.positions or op.out_channels:
        # Quantised before the mask, so that the convolution ends in integers where runtimes look for them.
        y = w.dequantised(w.quantised(y, out, f"{op.output}.open"), out.element, out.scale, f"{op.output}.open.float")
    return masked(w, y, out, op.positions, op.out_channels, op.reach)


@written.register
def _conv_to_float(op: IntegerConvToFloat, w: Writer) -> str:
    y = _convolved(op, w, w.array(op.scale).astype(np.float64))
    return masked(w, y, w.program.value(op.output), op.positions, op.out_channels, op.reach)


@written.register
def _conv_to_sums(op: IntegerConvToSums, w: Writer) -> str:
    y = _convolved(op, w, np.ones(w.program.value(op.output).channels))
    return w.graph.node("Round", y, name=op.output)


def _convolved(op: Conv, w: Writer, units: np.ndarray) -> str:
    """The convolution with its bias, in real numbers: sums times `units`, float64 [out]."""
    scale = w.program.value(op.inputs[0]).scale
    x = open_inputs(op, w, w.read(op.inputs[0]))
    sign = np.where(units < 0, -1, 1) * (units != 0)  # a scale is above zero; weights take the sign
    units = np.where(units == 0, scale, np.abs(units))
    weight = (w.array(op.weight) * sign[:, None, None, None]).astype(np.int8)
    arrays = [w.dequantised_array(weight, units / scale, op.weight)]
    if op.bias:
        arrays.append(w.dequantised_array((w.array(op.bias) * sign).astype(np.int32), units, op.bias))
    return w.graph.node("Conv", x, *arrays, group=op.groups, **geometry(op), name=f"{op.output}.conv")


@written.register
def _complete(op: IntegerComplete, w: Writer) -> str:
    graph, out, sums = w.graph, w.program.value(op.output), w.read(op.inputs[1])
    weight = whole_weight(op, w.array(op.weight), w.program.value(op.inputs[0]))
    scale = 1 / w.program.value(op.inputs[0]).scale
    weights = w.dequantised_array(weight, np.full(len(weight), scale), op.weight)
    rest = graph.node("Conv", w.read(op.inputs[0]), weights, **geometry(op), name=f"{op.output}.rest")
    whole = graph.node("Add", sums, rest, name=f"{op.output}.whole")

    def real(tensor: str, bias: str, multiplier: str, shift: str) -> str:
        unit = out.scale * np.ldexp(1.0 * w.array(multiplier), -w.array(shift))
        biased = graph.node("Add", tensor, w.per_channel(bias), name=f"{op.output}.biased")
        return graph.node("Mul", biased, graph.floats(unit.reshape(-1, 1, 1)), name=f"{op.output}.real")

    opened = real(whole, op.open_bias, op.open_multiplier, op.open_shift)
    closed = real(sums, op.bias, op.multiplier, op.shift)
    y = graph.node("Where", spread(w, op.gate, out, as_bool=True), opened, closed, name=f"{op.output}.chosen")
    if len(op.inputs) > 2:
        y = graph.node("Add", y, _brought(w, op.inputs[2], *op.addend, out), name=f"{op.output}.sum")
    return _clamped(w, y, op.low, op.high, out)


@written.register
def _add(op: IntegerAdd, w: Writer) -> str:
    out = w.program.value(op.output)
    pairs = zip(op.inputs, op.multipliers, op.shifts, strict=True)
    sum_ = w.graph.node("Add", *(_brought(w, *pair, out) for pair in pairs), name=f"{op.output}.sum")
    return _clamped(w, sum_, op.low, op.high, out)


def _brought(w: Writer, name: str, multiplier: int, shift: int, out: Value) -> str:
    """A value as real numbers on its way to the output's scale: with its own scale, where the multiplier says that."""
    scale, own = out.scale * multiplier / 2.0**shift, w.program.value(name).scale
    return w.scaled(name, own if abs(scale - own) <= _NEARLY * own else scale)


def _clamped(w: Writer, tensor: str, low: int, high: int, out: Value) -> str:
    """Within those of the limits that QuantizeLinear does not set by itself."""
    least, most = out.element.limits
    lower = low * out.scale if low > least else -np.inf
    upper = high * out.scale if high < most else np.inf
    if (lower, upper) == (-np.inf, np.inf):
        return tensor
    return clamped(w.graph, tensor, lower, upper, f"{out.name}.clamped")
