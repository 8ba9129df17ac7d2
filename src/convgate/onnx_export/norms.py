"""Norms over groups of channels and over channels, and softmax."""

import numpy as np

from convgate.engine.program import GroupNorm, LayerNorm, Softmax
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__: list[str] = []


@written.register
def _group_norm(op: GroupNorm, w: Writer) -> str:
    # Each group as one long channel of an instance norm; the operator for groups came later.
    graph, out = w.graph, w.program.value(op.output)
    groups = graph.reshaped(w.read(op.inputs[0]), (op.groups, -1), f"{op.output}.groups")
    arrays = [graph.floats(np.full(op.groups, fill)) for fill in (1.0, 0.0)]
    normed = graph.node("InstanceNormalization", groups, *arrays, epsilon=float(op.epsilon), name=f"{op.output}.normed")
    y = graph.reshaped(normed, out.shape, op.output)
    for kind, array in (("Mul", op.scale), ("Add", op.shift)):
        if array:
            y = graph.node(kind, y, w.per_channel(array), name=op.output)
    return y


@written.register
def _layer_norm(op: LayerNorm, w: Writer) -> str:
    graph, out = w.graph, w.program.value(op.output)
    last = graph.node("Transpose", w.read(op.inputs[0]), perm=[0, 2, 3, 1], name=f"{op.output}.channels_last")
    scale = w.array(op.scale) if op.scale else np.ones(out.channels)
    arrays = [graph.floats(scale, op.scale or "ones")]
    arrays += [graph.floats(w.array(op.shift), op.shift)] if op.shift else []
    normed = graph.node(
        "LayerNormalization", last, *arrays, axis=-1, epsilon=float(op.epsilon), name=f"{op.output}.normed"
    )
    return graph.node("Transpose", normed, perm=[0, 3, 1, 2], name=op.output)


@written.register
def _softmax(op: Softmax, w: Writer) -> str:
    return w.graph.node("Softmax", w.read(op.inputs[0]), axis=1, name=op.output)
