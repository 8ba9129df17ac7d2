"""Maps in another size."""

import numpy as np

from convgate.engine.program import Interpolate, Value
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__: list[str] = []


@written.register
def _interpolate(op: Interpolate, w: Writer) -> str:
    graph, x, out, read = w.graph, w.program.value(op.inputs[0]), w.program.value(op.output), w.read(op.inputs[0])
    scales = op.scales if len(op.inputs) == 1 and tuple(op.size) == (0, 0) else (0.0, 0.0)
    extents = ((2, x.height, out.height, scales[0]), (3, x.width, out.width, scales[1]))
    if op.mode != "bilinear":
        # Positions are listed, since runtimes round in ways of their own.
        for axis, before, after, scale in extents:
            read = graph.picked(read, axis, _nearest(before, after, scale, op.mode), before, op.output)
        return read
    if op.align_corners or all(not scale or before * scale == after for _, before, after, scale in extents):
        return _resized(w, read, out, "align_corners" if op.align_corners else "half_pixel")
    # A scale that says where positions read, and is not the sizes' ratio: no Resize has that in every runtime.
    rows, columns = (_blending(before, after, scale) for _, before, after, scale in extents)
    blended = graph.node("MatMul", read, graph.floats(columns.T, "blending"), name=f"{op.output}.columns")
    return graph.node("MatMul", graph.floats(rows, "blending"), blended, name=op.output)


def _resized(w: Writer, read: str, out: Value, positions: str) -> str:
    # Without a region, and without scales: the sizes say it all.
    sizes = w.sized(out.height, out.width, out.channels)
    return w.graph.node(
        "Resize", read, "", "", sizes, mode="linear", coordinate_transformation_mode=positions, name=out.name
    )


def _ratio(before: int, after: int, scale: float) -> np.float32:
    return np.float32(1 / scale) if scale else np.float32(before) / np.float32(after)


def _nearest(before: int, after: int, scale: float, mode: str) -> np.ndarray:
    """int64 [after]: the position that each one reads, computed in float32 as PyTorch does."""
    positions = np.arange(after, dtype=np.float32) + np.float32(0.5 if mode == "nearest-exact" else 0)
    return np.minimum(np.floor(positions * _ratio(before, after, scale)).astype(np.int64), before - 1)


def _blending(before: int, after: int, scale: float) -> np.ndarray:
    """[after, before]: with which weight each position reads those of the input, two of them at most."""
    at = (np.arange(after, dtype=np.float32) + np.float32(0.5)) * _ratio(before, after, scale) - np.float32(0.5)
    at = np.clip(at, 0, before - 1)
    first = np.floor(at).astype(np.int64)
    weight, rows = at - first, np.arange(after)
    matrix: np.ndarray = np.zeros((after, before), np.float32)
    matrix[rows, first] += 1 - weight
    matrix[rows, np.minimum(first + 1, before - 1)] += weight
    return matrix
