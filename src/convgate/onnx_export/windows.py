"""Maximum and average over windows: padding and counts as programs define them."""

from typing import Any

import numpy as np

from convgate.engine.program import Pool, Value
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__: list[str] = []


@written.register
def _pool(op: Pool, w: Writer) -> str:
    x, out = w.program.value(op.inputs[0]), w.program.value(op.output)
    return _maximum(op, w, x, out) if op.kind == "max" else _average(op, w, x, out)


def _maximum(op: Pool, w: Writer, x: Value, out: Value) -> str:
    graph, pads = w.graph, _pads(op, x, out)
    how: dict[str, Any] = {"kernel_shape": list(op.kernel), "strides": list(op.stride), "dilations": list(op.dilation)}
    read = w.read(op.inputs[0])
    if _fits(op, pads):
        y = graph.node("MaxPool", read, **how, pads=pads, name=op.output)
    else:
        y = graph.node("MaxPool", _padded(w, read, pads, -np.inf, op.output), **how, name=op.output)
    empty = _elements(op, x, out, padding=False) == 0
    if not empty.any():
        return y
    # A window that a dilation leaves without an element holds zero.
    return graph.node("Where", graph.constant(empty), graph.floats(0.0, "zero"), y, name=op.output)


def _average(op: Pool, w: Writer, x: Value, out: Value) -> str:
    graph, pads = w.graph, _pads(op, x, out)
    how: dict[str, Any] = {"kernel_shape": list(op.kernel), "strides": list(op.stride)}
    read = w.read(op.inputs[0])
    overhang = any(after > by for after, by in zip(pads[2:], op.padding, strict=True))
    if not overhang and _fits(op, pads) and tuple(op.dilation) == (1, 1):
        how |= {"pads": [*op.padding, *op.padding], "count_include_pad": int(op.count_padding)}
        return graph.node("AveragePool", read, **how, name=op.output)
    if tuple(op.dilation) != (1, 1):
        sums = _sums(op, w, x, _padded(w, read, pads, 0.0, op.output))
        factor = 1 / np.maximum(_elements(op, x, out, padding=op.count_padding), 1)
    else:
        sums = graph.node("AveragePool", _padded(w, read, pads, 0.0, op.output), **how, name=f"{op.output}.sums")
        factor = op.kernel[0] * op.kernel[1] / np.maximum(_elements(op, x, out, padding=op.count_padding), 1)
    return graph.node("Mul", sums, graph.floats(factor, "counts"), name=op.output)


def _sums(op: Pool, w: Writer, x: Value, padded: str) -> str:
    """Sums over dilated windows: a depthwise convolution with ones."""
    ones = w.graph.floats(np.ones((x.channels, 1, *op.kernel)), "ones")
    how: dict[str, Any] = {"strides": list(op.stride), "dilations": list(op.dilation), "group": x.channels}
    return w.graph.node("Conv", padded, ones, **how, name=f"{op.output}.sums")


def _pads(op: Pool, x: Value, out: Value) -> list[int]:
    """Top, left, bottom, right: what must lie around the map for as many windows as the output has positions."""
    after = []
    for i, (size, cells) in enumerate(((x.height, out.height), (x.width, out.width))):
        last = (cells - 1) * op.stride[i] + op.dilation[i] * (op.kernel[i] - 1) + 1
        after.append(max(last - size - op.padding[i], 0))
    return [*op.padding, *after]


def _fits(op: Pool, pads: list[int]) -> bool:
    """Whether runtimes take such paddings: less than the window is long."""
    return all(by < size for by, size in zip(pads, (*op.kernel, *op.kernel), strict=True))


def _padded(w: Writer, tensor: str, pads: list[int], value: float, name: str) -> str:
    if not any(pads):
        return tensor
    top, left, bottom, right = pads
    around = w.graph.integers([0, 0, top, left, 0, 0, bottom, right])
    return w.graph.node("Pad", tensor, around, w.graph.floats(value, "fill"), name=f"{name}.padded")


def _elements(op: Pool, x: Value, out: Value, *, padding: bool) -> np.ndarray:
    """int64 [1, 1, H, W]: how many elements each window has, with those of the padding or without."""
    counts = []
    for i, (size, cells) in enumerate(((x.height, out.height), (x.width, out.width))):
        taps = np.arange(cells)[:, None] * op.stride[i] + np.arange(op.kernel[i]) * op.dilation[i] - op.padding[i]
        more = op.padding[i] if padding else 0
        counts.append(((taps >= -more) & (taps < size + more)).sum(1))
    return np.asarray(counts[0][:, None] * counts[1])[None, None]
