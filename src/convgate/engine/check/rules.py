"""One rule for each type of operation: what must hold of its fields, its inputs and what it writes."""

import math
from functools import singledispatch
from typing import Any

import numpy as np

from convgate.engine.check.checker import MOST_CHANNELS, MOST_EXTENT, Checker
from convgate.engine.program import (
    Activate,
    Add,
    Affine,
    Arithmetic,
    Complete,
    Completing,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Decide,
    Element,
    FillClosed,
    Gate,
    GateKind,
    GroupNorm,
    Interpolate,
    LayerNorm,
    Mask,
    Multiply,
    Operation,
    OverChannels,
    Pad,
    Pick,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    PoolToGrid,
    PRelu,
    Reshape,
    Slice,
    Softmax,
    Value,
    form,
)

__all__ = ["check_completion", "check_convolution", "check_decision", "keeps_shape", "rule", "spreads"]


@singledispatch
def rule(op: Operation, c: Checker, inputs: list[Value], out: Value | None) -> None:
    """Raise `ProgramError` unless an operation fits its inputs and its output (None for a decision)."""
    c.require(False, "an unknown kind of operation")


@rule.register
def _conv(op: Conv, c: Checker, inputs: list[Value], out: Value) -> None:
    weight = c.program.arrays.get(op.weight)
    halves = weight is not None and weight.dtype == np.uint16 and form(c.program, op)[0] is Element.BFLOAT16
    check_convolution(op, c, inputs, out, np.uint16 if halves else np.float32)


def check_convolution(
    op: Conv, c: Checker, inputs: list[Value], out: Value, weight: Any = np.float32, bias: Any = np.float32
) -> None:
    """What holds of every `Conv`; `weight` and `bias` are the types of these arrays."""
    c.require(len(inputs) in (1, 2), f"takes 1 or 2 inputs, not {len(inputs)}")
    x = inputs[0]
    c.divided(op.groups, x, out)
    _convolution(op, c, inputs, x.channels // op.groups, out, weight)
    if op.bias:
        c.array(op.bias, out.channels, of=bias)
    if len(inputs) == 2:
        c.same(inputs[1], out)
    c.gate(op.positions, GateKind.SPATIAL, out)
    c.reach(op.reach, dilates=bool(op.positions))
    c.gate(op.in_channels, GateKind.CHANNEL, x)
    c.gate(op.out_channels, GateKind.CHANNEL, out)
    masked = bool(op.positions or op.out_channels)
    c.require(op.activation.keeps_zero or not masked, f"{op.activation} of a masked convolution")


@rule.register
def _complete(op: Complete, c: Checker, inputs: list[Value], out: Value) -> None:
    check_completion(op, c, inputs, out)
    c.optional((op.scale, op.shift, op.open_scale, op.open_shift), out.channels)


def check_completion(op: Completing, c: Checker, inputs: list[Value], out: Value, weight: Any = np.float32) -> None:
    """What holds of everything that completes partial sums; `weight` is the type of the weights."""
    c.require(len(inputs) in (2, 3), f"takes 2 or 3 inputs, not {len(inputs)}")
    x = inputs[0]
    c.divided(op.parts, x, out)
    _convolution(op, c, inputs, x.channels - (x.channels // op.parts if op.parts > 1 else 0), out, weight)
    for other in inputs[1:]:
        c.same(other, out)
    c.require(bool(op.gate), "has no gate")
    c.gate(op.gate, GateKind.ACTIVATION, out)


@rule.register
def _transposed(op: ConvTranspose, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    x = inputs[0]
    c.divided(op.groups, x, out)
    weight = c.program.arrays.get(op.weight)
    c.require(weight is not None and weight.ndim == 4, f"weights '{op.weight}' are missing or not 4-d")
    assert weight is not None
    kernel = weight.shape[2:]
    c.array(op.weight, x.channels, out.channels // op.groups, *kernel)
    if op.bias:
        c.array(op.bias, out.channels)
    c.window(kernel, op.stride, op.dilation, (*op.padding, *op.padding))
    for axis in range(2):
        more, most = op.output_padding[axis], max(op.stride[axis], op.dilation[axis])
        c.require(isinstance(more, int) and 0 <= more < most, f"an output padding of {more}")
    c.size(op, inputs, out)


@rule.register
def _activate(op: Activate | Softmax, c: Checker, inputs: list[Value], out: Value) -> None:
    keeps_shape(c, inputs, out)


@rule.register
def _prelu(op: PRelu, c: Checker, inputs: list[Value], out: Value) -> None:
    keeps_shape(c, inputs, out)
    c.array(op.weight, out.channels)


@rule.register
def _affine(op: Affine, c: Checker, inputs: list[Value], out: Value) -> None:
    keeps_shape(c, inputs, out)
    c.array(op.scale, out.channels)
    c.array(op.shift, out.channels)


@rule.register
def _binary(op: Add | Multiply, c: Checker, inputs: list[Value], out: Value) -> None:
    spreads(c, inputs, out)


@rule.register
def _arithmetic(op: Arithmetic, c: Checker, inputs: list[Value], out: Value) -> None:
    kinds = ("divide", "maximum", "minimum")
    c.require(op.arithmetic in kinds, f"of kind {op.arithmetic!r}; known are {', '.join(kinds)}")
    spreads(c, inputs, out)


@rule.register
def _pool(op: Pool, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    c.require(op.kind in ("max", "average"), f"of kind {op.kind!r}; max or average")
    c.window(op.kernel, op.stride, op.dilation, op.padding)
    x = inputs[0]
    c.require(x.channels == out.channels, "changes the number of channels")
    for axis, (size, result) in enumerate(((x.height, out.height), (x.width, out.width))):
        room = size + 2 * op.padding[axis] - op.dilation[axis] * (op.kernel[axis] - 1) - 1
        floor, ceil = room // op.stride[axis] + 1, -(-room // op.stride[axis]) + 1
        begins = (result - 1) * op.stride[axis] < size + op.padding[axis]
        c.require(result in (floor, ceil) and begins, f"an output of {result} where {floor} or {ceil} follow")


@rule.register
def _pool_to_grid(op: PoolToGrid, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    c.require(inputs[0].channels == out.channels, "changes the number of channels")
    c.require(not op.mask or op.mask in c.gates, f"gate '{op.mask}' does not exist")
    c.extents(*(cells + 1 for cells in op.grid))


@rule.register
def _norm(op: GroupNorm | LayerNorm, c: Checker, inputs: list[Value], out: Value) -> None:
    keeps_shape(c, inputs, out)
    c.optional((op.scale, op.shift), out.channels)
    number = isinstance(op.epsilon, float | int) and 0 <= op.epsilon <= 1e6
    c.require(number, f"an epsilon of {op.epsilon!r}")
    if isinstance(op, GroupNorm):
        c.divided(op.groups, out, out)


@rule.register
def _over_channels(op: OverChannels, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    c.require(isinstance(op.maximum, bool), "maximum is not true or false")
    c.require(out.shape == (1, *inputs[0].shape[1:]), "is not one channel of the input's size")


@rule.register
def _pad(op: Pad, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    modes = ("constant", "reflect", "replicate", "circular")
    c.require(op.mode in modes, f"of mode {op.mode!r}; known are {', '.join(modes)}")
    whole = all(isinstance(n, int) and not isinstance(n, bool) and abs(n) <= MOST_EXTENT for n in op.padding)
    c.require(whole and len(op.padding) == 4, f"a padding of {op.padding}")
    x = inputs[0]
    top, left, bottom, right = op.padding
    for size, before, after in ((x.height, top, bottom), (x.width, left, right)):
        most = {"constant": MOST_EXTENT, "replicate": MOST_EXTENT, "reflect": size - 1, "circular": size}
        fits = max(before, after) <= most[op.mode] and (op.mode == "constant" or min(before, after) >= 0)
        c.require(fits, f"a {op.mode} padding of {before} and {after} around {size}")
    c.require(x.channels == out.channels, "changes the number of channels")
    c.size(op, inputs, out)


@rule.register
def _shuffle(op: PixelShuffle | PixelUnshuffle, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    deep, wide = (inputs[0], out) if isinstance(op, PixelShuffle) else (out, inputs[0])
    c.extents(op.factor)
    c.require(op.factor <= 1024, f"a factor of {op.factor}")
    expected = deep.channels, deep.height * op.factor, deep.width * op.factor
    found = wide.channels * op.factor**2, wide.height, wide.width
    c.require(expected == found, f"a factor of {op.factor} from {inputs[0].shape} to {out.shape}")


@rule.register
def _reshape(op: Reshape, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    c.require(math.prod(inputs[0].shape) == math.prod(out.shape), "has another number of elements")


@rule.register
def _constant(op: Constant, c: Checker, inputs: list[Value], out: Value) -> None:
    c.array(op.weight, *out.shape, finite=False)


@rule.register
def _interpolate(op: Interpolate, c: Checker, inputs: list[Value], out: Value) -> None:
    modes = ("nearest", "nearest-exact", "bilinear")
    c.require(op.mode in modes, f"of mode {op.mode!r}; known are {', '.join(modes)}")
    c.require(len(inputs) in (1, 2), f"takes 1 or 2 inputs, not {len(inputs)}")
    c.require(isinstance(op.align_corners, bool), "align_corners is not true or false")
    scales = all(isinstance(s, float | int) and (s == 0 or 1e-6 <= s <= 1e6) for s in op.scales)
    c.require(len(op.scales) == 2 and scales, f"scales {op.scales} out of range")
    c.require(inputs[0].channels == out.channels, "changes the number of channels")
    c.size(op, inputs, out)


@rule.register
def _concat(op: Concat, c: Checker, inputs: list[Value], out: Value) -> None:
    for value in inputs:
        c.require((value.height, value.width) == (out.height, out.width), f"'{value.name}' is of another size")
    c.require(sum(value.channels for value in inputs) == out.channels, "channels do not add up")


@rule.register
def _slice(op: Slice, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    c.size(op, inputs, out)
    c.require(isinstance(op.begin, int) and abs(op.begin) < MOST_CHANNELS, "begins out of range")


@rule.register
def _pick(op: Pick, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 1)
    c.size(op, inputs, out)
    c.require(len(op.channels) == out.channels, "does not pick what it writes")
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in op.channels)
    c.require(whole and all(0 <= n < inputs[0].channels for n in op.channels), "picks channels out of range")


@rule.register
def _mask(op: Mask, c: Checker, inputs: list[Value], out: Value) -> None:
    keeps_shape(c, inputs, out)
    c.require(op.gate in c.gates, f"gate '{op.gate}' does not exist")
    c.require(
        c.gates[op.gate].kind != GateKind.ACTIVATION, f"gate '{op.gate}' of activations cannot be applied as a mask"
    )
    c.gate(op.gate, c.gates[op.gate].kind, out)
    c.reach(op.reach, dilates=c.gates[op.gate].kind == GateKind.SPATIAL)


@rule.register
def _fill_closed(op: FillClosed, c: Checker, inputs: list[Value], out: Value) -> None:
    c.inputs(inputs, 2)
    c.same(inputs[0], out)
    c.require(bool(op.gate), "has no gate")
    c.gate(op.gate, GateKind.SPATIAL, out)
    cells = (out.channels, *c.gates[op.gate].shape[1:])
    c.require(inputs[1].shape == cells, f"'{inputs[1].name}' has shape {inputs[1].shape}, not {cells}")


@rule.register
def _decide(op: Decide, c: Checker, inputs: list[Value], out: Value) -> None:
    gate = check_decision(op, c, inputs)
    offset = c.program.arrays.get(op.offset)
    everywhere = gate.kind == GateKind.SPATIAL and offset is not None and offset.shape == (1, 1, 1)
    c.array(op.offset, *((1, 1, 1) if everywhere else gate.offset_shape))
    by_activation = gate.kind == GateKind.ACTIVATION
    c.require(by_activation or not (op.scale or op.shift), "scales or shifts logits, which only activation gates allow")
    c.optional((op.scale, op.shift), inputs[0].channels)


def check_decision(op: Decide, c: Checker, inputs: list[Value]) -> Gate:
    """The gate of a decision, whose logits have its shape; from now on it is decided."""
    c.inputs(inputs, 1)
    c.require(op.output in c.gates, "decides a gate that does not exist")
    c.require(op.output not in c.decided, "decides a gate twice")
    gate, logits = c.gates[op.output], inputs[0]
    by_activation = gate.kind == GateKind.ACTIVATION
    units = math.ceil(logits.channels / gate.group) if by_activation else logits.channels
    fits = (units, logits.height, logits.width) == gate.shape
    c.require(fits, f"logits of another shape than {gate.shape}")
    c.decided.add(op.output)
    return gate


def _convolution(
    op: Conv | Completing, c: Checker, inputs: list[Value], reads: int, out: Value, of: Any = np.float32
) -> None:
    """The geometry of a convolution each of whose outputs reads so many channels."""
    weight = c.program.arrays.get(op.weight)
    c.require(weight is not None and weight.ndim == 4, f"weights '{op.weight}' are missing or not 4-d")
    assert weight is not None
    kernel = weight.shape[2:]
    c.array(op.weight, out.channels, reads, *kernel, of=of)
    c.window(kernel, op.stride, op.dilation, op.padding)
    c.size(op, inputs, out)


def keeps_shape(c: Checker, inputs: list[Value], out: Value) -> None:
    """Require one input, of the output's shape."""
    c.inputs(inputs, 1)
    c.same(inputs[0], out)


def spreads(c: Checker, inputs: list[Value], out: Value) -> None:
    """Require two inputs, each as large as the output or 1 along every axis."""
    c.inputs(inputs, 2)
    a, b = inputs
    for first, second, result in zip(a.shape, b.shape, out.shape, strict=True):
        spread = {first, second} <= {1, result} and result in (first, second)
        c.require(spread, f"'{a.name}' {a.shape} and '{b.name}' {b.shape} do not make {out.shape}")
