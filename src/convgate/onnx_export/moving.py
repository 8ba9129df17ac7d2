"""Operations that move elements: what is moved stays as it is, integers included."""

import numpy as np

from convgate.engine.program import Concat, Constant, Pad, Pick, PixelShuffle, PixelUnshuffle, Reshape, Slice
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__: list[str] = []


@written.register
def _pad(op: Pad, w: Writer) -> str:
    graph, x, value = w.graph, w.read(op.inputs[0]), w.program.value(op.inputs[0])
    top, left, bottom, right = op.padding
    if op.mode == "circular":  # an operator has it from opset 19 on
        for axis, size, before, after in ((2, value.height, top, bottom), (3, value.width, left, right)):
            x = graph.picked(x, axis, np.arange(-before, size + after) % size, size, op.output)
        return x
    pads = graph.integers([0, 0, top, left, 0, 0, bottom, right])
    fill = [graph.floats(op.value, "fill")] if op.mode == "constant" else []
    mode = "edge" if op.mode == "replicate" else op.mode
    return graph.node("Pad", x, pads, *fill, mode=mode, name=op.output)


@written.register
def _shuffle(op: PixelShuffle, w: Writer) -> str:
    return w.graph.node("DepthToSpace", w.read(op.inputs[0]), blocksize=op.factor, mode="CRD", name=op.output)


@written.register
def _unshuffle(op: PixelUnshuffle, w: Writer) -> str:
    # SpaceToDepth orders channels in another way.
    graph, out, f = w.graph, w.program.value(op.output), op.factor
    cut = graph.reshaped(
        w.read(op.inputs[0]), (out.channels // f**2, out.height, f, out.width, f), f"{op.output}.squares"
    )
    turned = graph.node("Transpose", cut, perm=[0, 1, 3, 5, 2, 4], name=f"{op.output}.turned")
    return graph.reshaped(turned, out.shape, op.output)


@written.register
def _reshape(op: Reshape, w: Writer) -> str:
    return w.graph.reshaped(w.read(op.inputs[0]), w.program.value(op.output).shape, op.output)


@written.register
def _concat(op: Concat, w: Writer) -> str:
    return w.graph.node("Concat", *(w.read(name) for name in op.inputs), axis=1, name=op.output)


@written.register
def _slice(op: Slice, w: Writer) -> str:
    graph, x, out = w.graph, w.program.value(op.inputs[0]), w.program.value(op.output)
    begin, end = max(op.begin, 0), min(op.begin + out.channels, x.channels)
    if begin >= end:
        return w.for_each_sample(np.zeros(out.shape, np.float32), op.output)
    kept = w.read(op.inputs[0])
    if (begin, end) != (0, x.channels):
        bounds = (graph.integers([begin]), graph.integers([end]), graph.integers([1]))
        kept = graph.node("Slice", kept, *bounds, name=f"{op.output}.kept")
    before, after = begin - op.begin, op.begin + out.channels - end
    if not before and not after:
        return kept
    pads = graph.integers([0, before, 0, 0, 0, after, 0, 0])
    return graph.node("Pad", kept, pads, graph.floats(0.0, "zero"), name=op.output)


@written.register
def _pick(op: Pick, w: Writer) -> str:
    channels = w.program.value(op.inputs[0]).channels
    return w.graph.picked(w.read(op.inputs[0]), 1, op.channels, channels, op.output)


@written.register
def _constant(op: Constant, w: Writer) -> str:
    return w.for_each_sample(w.array(op.weight), op.output)
