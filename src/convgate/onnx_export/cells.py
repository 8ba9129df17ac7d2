"""Average and maximum over a grid of cells, and over channels."""

import numpy as np

from convgate.engine.program import IntegerMean, OverChannels, PoolToGrid, Value
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__ = ["cells"]


@written.register
def _to_grid(op: IntegerMean | PoolToGrid, w: Writer) -> str:
    x, out, maximum = w.program.value(op.inputs[0]), w.program.value(op.output), getattr(op, "maximum", False)
    read, kind = w.read(op.inputs[0]), "Max" if maximum else "Average"
    if out.shape == x.shape:
        return read
    if (out.height, out.width) == (1, 1):
        return w.graph.node(f"Global{kind}Pool", read, name=op.output)
    if x.height % out.height == x.width % out.width == 0:
        sides = [x.height // out.height, x.width // out.width]
        return w.graph.node(f"{kind}Pool", read, kernel_shape=sides, strides=sides, name=op.output)
    return (_maxima if maximum else _means)(w, read, x, out)


def cells(size: int, count: int) -> list[tuple[int, int]]:
    """Where cells along an axis begin and end.

    >>> cells(5, 2)
    [(0, 3), (2, 5)]
    """
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _means(w: Writer, read: str, x: Value, out: Value) -> str:
    """Products with a matrix for the rows and one for the columns: cells overlap where sizes do not divide."""
    rows, columns = (np.zeros(shape) for shape in ((out.height, x.height), (out.width, x.width)))
    for matrix in (rows, columns):
        for i, (begin, end) in enumerate(cells(matrix.shape[1], matrix.shape[0])):
            matrix[i, begin:end] = 1 / (end - begin)
    means = w.graph.node("MatMul", read, w.graph.floats(columns.T, "means"), name=f"{out.name}.columns")
    return w.graph.node("MatMul", w.graph.floats(rows, "means"), means, name=out.name)


def _maxima(w: Writer, read: str, x: Value, out: Value) -> str:
    """Along each axis the elements of every cell, the last one repeated where a cell is smaller, then their maximum."""
    for axis, size, count in ((2, x.height, out.height), (3, x.width, out.width)):
        spans = cells(size, count)
        most = max(end - begin for begin, end in spans)
        indices = np.array([np.minimum(np.arange(begin, begin + most), end - 1) for begin, end in spans])
        gathered = w.graph.node("Gather", read, w.graph.integers(indices), axis=axis, name=f"{out.name}.cells")
        read = w.graph.node("ReduceMax", gathered, axes=[axis + 1], keepdims=0, name=out.name)
    return read


@written.register
def _over_channels(op: OverChannels, w: Writer) -> str:
    kind = "ReduceMax" if op.maximum else "ReduceMean"
    return w.graph.node(kind, w.read(op.inputs[0]), axes=[1], keepdims=1, name=op.output)
