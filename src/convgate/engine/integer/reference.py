"""Each operation on 8-bit integers by its definition, in NumPy: everything is computed, and masked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np
import numpy.typing as npt

from convgate.engine.integer.partial import completed
from convgate.engine.integer.requantise import brought
from convgate.engine.integer.sums import convolution
from convgate.engine.program import (
    Concat,
    Conv,
    Dequantize,
    Element,
    IntegerAdd,
    IntegerComplete,
    IntegerConv,
    IntegerConvToFloat,
    IntegerConvToSums,
    IntegerMean,
    Lookup,
    Mask,
    Operation,
    Pad,
    Pick,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    Program,
    Quantize,
    Reshape,
    Slice,
)
from convgate.errors import ProgramError

__all__ = ["Context", "compute", "dtype"]


@dataclass(frozen=True, eq=False)
class Context:
    """Where an operation stands: its program, and `mask`, which gives a gate's mask as large as it is on a value.

    `mask` may be told by how many (rows, columns) the mask is dilated. `masks` are those of the gates that were decided
    so far, [N, units, rows, columns].
    """

    program: Program
    mask: Callable[..., np.ndarray]
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)

    def array(self, name: str) -> np.ndarray:
        """An array of the program."""
        return self.program.arrays[name]

    def per_channel(self, name: str) -> np.ndarray:
        """An array [channels] as one that is spread over maps [N, C, H, W]."""
        return self.program.arrays[name][:, None, None]


def dtype(element: Element) -> npt.DTypeLike:
    """NumPy's type of a value's elements."""
    return np.dtype(element.value)


@singledispatch
def compute(op: Operation, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """What `op` writes, [N, C, H, W] of the output's element type, from its inputs."""
    raise ProgramError(f"'{op.output}' ({type(op).__name__}) has no definition on integers")


@compute.register
def _quantize(op: Quantize, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    out = context.program.value(op.output)
    low, high = out.element.limits
    units = inputs[0] * np.float32(1 / out.scale)
    units[np.isnan(units)] = 0
    return np.clip(np.rint(units), low, high).astype(dtype(out.element))


@compute.register
def _dequantize(op: Dequantize, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return inputs[0].astype(np.float32) * np.float32(context.program.value(op.inputs[0]).scale)


@compute.register
def _conv(op: IntegerConv, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    out = context.program.value(op.output)
    result = brought(_sums(op, context, inputs[0]), context.per_channel(op.multiplier), context.per_channel(op.shift))
    result = _masked(op, context, result)
    if len(inputs) > 1:
        result += brought(inputs[1], *op.addend)
    return np.clip(result, op.low, op.high).astype(dtype(out.element))


@compute.register
def _conv_to_float(op: IntegerConvToFloat, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    sums = _masked(op, context, _sums(op, context, inputs[0]))
    return sums.astype(np.float32) * context.per_channel(op.scale)


@compute.register
def _conv_to_sums(op: IntegerConvToSums, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return _sums(op, context, inputs[0])


@compute.register
def _complete(op: IntegerComplete, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    out = context.program.value(op.output)
    return completed(op, context.program, context.mask(op.gate, out), inputs).astype(dtype(out.element))


def _sums(op: Conv, context: Context, x: np.ndarray) -> np.ndarray:
    if op.in_channels:
        # Closed channels hold zeros; what need not be read must make no difference.
        x = x * context.mask(op.in_channels, context.program.value(op.inputs[0]))
    sums = convolution(op, x, context.array(op.weight))
    return sums + context.per_channel(op.bias) if op.bias else sums


def _masked(op: Conv, context: Context, sums: np.ndarray) -> np.ndarray:
    out = context.program.value(op.output)
    if op.positions:
        sums = sums * context.mask(op.positions, out, op.reach)
    return sums * context.mask(op.out_channels, out) if op.out_channels else sums


@compute.register
def _add(op: IntegerAdd, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    a, b = (brought(x, m, s) for x, m, s in zip(inputs, op.multipliers, op.shifts, strict=True))
    return np.clip(a + b, op.low, op.high).astype(dtype(context.program.value(op.output).element))


@compute.register
def _lookup(op: Lookup, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    signed = context.program.value(op.inputs[0]).element is Element.INT8
    return context.array(op.table)[inputs[0].astype(np.int16) + (128 if signed else 0)]


@compute.register
def _mean(op: IntegerMean, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    x, out = context.program.value(op.inputs[0]), context.program.value(op.output)
    cells = np.empty((len(inputs[0]), *out.shape), np.float32)
    rows, columns = (
        [(i * size // n, -(-(i + 1) * size // n)) for i in range(n)]
        for size, n in ((x.height, out.height), (x.width, out.width))
    )
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            sums = inputs[0][:, :, top:bottom, left:right].sum((2, 3), dtype=np.int64)
            cells[:, :, i, j] = sums.astype(np.float32) * np.float32(x.scale / ((bottom - top) * (right - left)))
    return cells


@compute.register
def _mask(op: Mask, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return inputs[0] * context.mask(op.gate, context.program.value(op.output), op.reach).astype(inputs[0].dtype)


@compute.register
def _concat(op: Concat, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(inputs, 1)


@compute.register
def _slice(op: Slice, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    x, out = inputs[0], context.program.value(op.output)
    result = np.zeros((len(x), *out.shape), x.dtype)
    begin, end = max(op.begin, 0), min(op.begin + out.channels, x.shape[1])
    if begin < end:
        result[:, begin - op.begin : end - op.begin] = x[:, begin:end]
    return result


@compute.register
def _pick(op: Pick, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return inputs[0][:, list(op.channels)]


@compute.register
def _reshape(op: Reshape, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return inputs[0].reshape(len(inputs[0]), *context.program.value(op.output).shape)


@compute.register
def _pad(op: Pad, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    top, left, bottom, right = op.padding
    height, width = inputs[0].shape[2:]
    cropped = inputs[0][:, :, max(-top, 0) : height + min(bottom, 0), max(-left, 0) : width + min(right, 0)]
    around = ((0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0)))
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "constant": "constant"}
    padded: np.ndarray = np.pad(cropped, around, modes[op.mode])  # type: ignore[call-overload]
    return padded


@compute.register
def _shuffle(op: PixelShuffle, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    x, f = inputs[0], op.factor
    n, channels, height, width = x.shape
    cut = x.reshape(n, channels // f**2, f, f, height, width).transpose(0, 1, 4, 2, 5, 3)
    return cut.reshape(n, channels // f**2, height * f, width * f)


@compute.register
def _unshuffle(op: PixelUnshuffle, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    x, f = inputs[0], op.factor
    n, channels, height, width = x.shape
    cut = x.reshape(n, channels, height // f, f, width // f, f).transpose(0, 1, 3, 5, 2, 4)
    return cut.reshape(n, channels * f**2, height // f, width // f)


@compute.register
def _maximum(op: Pool, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
    x, out = inputs[0], context.program.value(op.output)
    least = np.iinfo(x.dtype).min
    reach = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(
        (out.height, out.width), op.stride, op.dilation, op.kernel, strict=True
    )]  # fmt: skip
    after = [max(r - n - p, 0) for r, n, p in zip(reach, x.shape[2:], op.padding, strict=True)]
    around = ((0, 0), (0, 0), *((p, a) for p, a in zip(op.padding, after, strict=True)))
    padded = np.pad(x, around, constant_values=least)
    result = np.full((len(x), *out.shape), least, x.dtype)
    for row in range(op.kernel[0]):
        for column in range(op.kernel[1]):
            begin = row * op.dilation[0], column * op.dilation[1]
            window = padded[:, :, begin[0] :: op.stride[0], begin[1] :: op.stride[1]]
            np.maximum(result, window[:, :, : out.height, : out.width], out=result)
    # A window without an element holds zero.
    return np.where(result == least, 0, result).astype(x.dtype)
