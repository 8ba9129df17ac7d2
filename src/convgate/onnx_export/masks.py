"""Gates in ONNX: comparisons of logits with zero, spread over positions and channels, and multiplied.

A gate is decided by `Less` (`LessOrEqual` where the decision is strict) and `Not`, so that a logit that is NaN opens
it, as in the engine, in runtimes that compare as IEEE 754 says.
"""

import numpy as np

from convgate.engine.program import Decide, FillClosed, Gate, GateKind, IntegerDecide, Mask, Value
from convgate.engine.tiles import tile_of
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__ = ["mask_of", "masked", "spread"]


@written.register
def _decide(op: Decide, w: Writer) -> str:
    gate, logits = w.gates[op.output], w.read(op.inputs[0])
    for kind, array in (("Mul", op.scale), ("Add", op.shift)):
        if array:
            logits = w.graph.node(kind, logits, w.per_channel(array), name=f"{op.output}.normed")
    if gate.kind == GateKind.ACTIVATION:
        logits = _by_unit(w, gate, logits, w.program.value(op.inputs[0]), mean=True)
    return _opened(op, w, logits)


@written.register
def _decide_on_sums(op: IntegerDecide, w: Writer) -> str:
    gate, sums = w.gates[op.output], w.program.value(op.inputs[0])
    return _opened(op, w, _by_unit(w, gate, w.read(op.inputs[0]), sums, mean=False))


def _opened(op: Decide, w: Writer, logits: str) -> str:
    graph = w.graph
    if w.array(op.offset).any():
        offset = graph.floats(w.array(op.offset), op.offset)
        logits = graph.node("Add", logits, offset, name=f"{op.output}.logits")
    below = "LessOrEqual" if op.strict else "Less"
    closed = graph.node(below, logits, graph.floats(0.0, "zero"), name=f"{op.output}.closed")
    w.opened[op.output] = graph.node("Not", closed, name=f"{op.output}.open")
    return w.opened[op.output]


def _by_unit(w: Writer, gate: Gate, logits: str, value: Value, *, mean: bool) -> str:
    """Sums, or means, over the channels of each unit; the last unit may have fewer."""
    if gate.group == 1:
        return logits
    graph, units, name = w.graph, gate.shape[0], f"{gate.name}.units"
    missing = units * gate.group - value.channels
    if missing:
        pads = graph.integers([0, 0, 0, 0, 0, missing, 0, 0])
        logits = graph.node("Pad", logits, pads, graph.floats(0.0, "zero"), name=name)
    logits = graph.reshaped(logits, (units, gate.group, value.height, value.width), name)
    logits = graph.node("ReduceSum", logits, graph.integers([2]), keepdims=0, name=name)
    if not mean:
        return logits
    share = np.full((units, 1, 1), 1 / gate.group, np.float32)
    share[-1] = 1 / (gate.group - missing)
    return graph.node("Mul", logits, graph.floats(share), name=name)


def mask_of(w: Writer, gate: str) -> str:
    """A gate's mask as float32 0 and 1, [N, units, rows, columns]."""
    return w.once(("mask", gate), lambda: w.graph.cast(w.opened[gate], "FLOAT", f"{gate}.mask"))


def spread(w: Writer, name: str, value: Value, reach: tuple[int, int] = (0, 0), *, as_bool: bool = False) -> str:
    """A gate's mask as it is on a value: [N, 1 or C, 1 or H, 1 or W], dilated by `reach`; float32, or bool."""
    gate = w.gates[name]
    size = (value.height, value.width) if gate.kind == GateKind.SPATIAL else (value.channels,)

    def make() -> str:
        mask = w.opened[name] if as_bool else mask_of(w, name)
        if gate.kind == GateKind.SPATIAL:
            return _over_positions(w, gate, mask, value, reach)
        units = np.arange(value.channels) // gate.group
        return w.graph.picked(mask, 1, units, gate.shape[0], f"{name}.channels")

    return w.once(("spread", name, size, tuple(reach), as_bool), make)


def _over_positions(w: Writer, gate: Gate, mask: str, value: Value, reach: tuple[int, int]) -> str:
    for axis, size in ((2, value.height), (3, value.width)):
        cells = gate.shape[axis - 1]
        if cells > 1:  # one row, or column, is the same at all positions by itself
            mask = w.graph.picked(mask, axis, tile_of(size, cells), cells, f"{gate.name}.positions")
    # Along an axis with one cell there is nothing to dilate.
    rows, columns = (by if cells > 1 else 0 for by, cells in zip(reach, gate.shape[1:], strict=True))
    if not rows and not columns:
        return mask
    window = [2 * rows + 1, 2 * columns + 1]
    pads = [rows, columns, rows, columns]
    return w.graph.node("MaxPool", mask, kernel_shape=window, pads=pads, name=f"{gate.name}.dilated")


def masked(w: Writer, tensor: str, value: Value, positions: str, channels: str, reach: tuple[int, int]) -> str:
    """A value with zeros at closed positions and in closed channels; gates that are "" close nothing."""
    if positions:
        mask = spread(w, positions, value, reach)
        tensor = w.graph.node("Mul", tensor, mask, name=f"{value.name}.masked")
    if channels:
        tensor = w.graph.node("Mul", tensor, spread(w, channels, value), name=f"{value.name}.masked")
    return tensor


@written.register
def _mask(op: Mask, w: Writer) -> str:
    value, spatial = w.program.value(op.output), w.gates[op.gate].kind == GateKind.SPATIAL
    return masked(w, w.read(op.inputs[0]), value, *((op.gate, "") if spatial else ("", op.gate)), op.reach)


@written.register
def _fill_closed(op: FillClosed, w: Writer) -> str:
    graph, value, gate = w.graph, w.program.value(op.output), w.gates[op.gate]
    cells = w.read(op.inputs[1])
    for axis, size in ((2, value.height), (3, value.width)):
        count = gate.shape[axis - 1]
        cells = graph.picked(cells, axis, tile_of(size, count), count, f"{op.output}.cells")
    closed = graph.node("Sub", graph.floats(1.0, "one"), spread(w, op.gate, value), name=f"{op.gate}.closed")
    filled = graph.node("Mul", cells, closed, name=f"{op.output}.filled")
    return graph.node("Add", w.read(op.inputs[0]), filled, name=op.output)
