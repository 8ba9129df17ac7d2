"""Convolutions of floats, dense: what gates close is computed and multiplied by zero."""

from typing import Any

import numpy as np

from convgate.engine.program import Complete, Completing, Conv, ConvTranspose, Element, Value, weight_element
from convgate.onnx_export.activations import activated
from convgate.onnx_export.masks import masked, spread
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__ = ["geometry", "open_inputs", "whole_weight"]


def geometry(op: Completing | Conv | ConvTranspose) -> dict[str, Any]:
    """The attributes of a Conv; paddings are top, left, bottom, right in ONNX, too."""
    padding = (*op.padding, *op.padding) if len(op.padding) == 2 else op.padding
    return {"strides": list(op.stride), "pads": list(padding), "dilations": list(op.dilation)}


def open_inputs(op: Conv, w: Writer, x: str) -> str:
    """What a convolution reads, with zeros in closed channels.

    They hold zeros by themselves where that follows from the program, and then nothing is multiplied.
    """
    if not op.in_channels or op.in_channels in w.closed[op.inputs[0]]:
        return x
    return masked(w, x, w.program.value(op.inputs[0]), "", op.in_channels, (0, 0))


@written.register
def _conv(op: Conv, w: Writer) -> str:
    graph, out = w.graph, w.program.value(op.output)
    x = open_inputs(op, w, w.read(op.inputs[0]))
    rounded = weight_element(w.program, op) is Element.BFLOAT16
    arrays = [graph.floats(w.array(op.weight, rounded=rounded), op.weight)]
    arrays += [graph.floats(w.array(op.bias), op.bias)] if op.bias else []
    y = graph.node("Conv", x, *arrays, group=op.groups, **geometry(op), name=f"{op.output}.conv")
    y = masked(w, y, out, op.positions, op.out_channels, op.reach)
    if len(op.inputs) > 1:
        y = graph.node("Add", y, w.read(op.inputs[1]), name=f"{op.output}.sum")
    return activated(graph, op.activation, y, op.output)


@written.register
def _transposed(op: ConvTranspose, w: Writer) -> str:
    graph, x, out = w.graph, w.read(op.inputs[0]), w.program.value(op.output)
    how = {**geometry(op), "group": op.groups}
    weight, bias = graph.floats(w.array(op.weight), op.weight), [w.array(op.bias)] if op.bias else []
    more = op.output_padding
    if all(by < step for by, step in zip(more, op.stride, strict=True)):
        arrays = [graph.floats(array, op.bias) for array in bias]
        y = graph.node("ConvTranspose", x, weight, *arrays, **how, output_padding=list(more), name=f"{op.output}.conv")
        return activated(graph, op.activation, y, op.output)
    # Runtimes take no output padding of a stride or more, as dilations allow: less is cropped, and zeros are appended.
    cropped = [max(by - extra, 0) for by, extra in zip(op.padding, more, strict=True)]
    appended = [max(extra - by, 0) for by, extra in zip(op.padding, more, strict=True)]
    y = graph.node("ConvTranspose", x, weight, **how | {"pads": [*op.padding, *cropped]}, name=f"{op.output}.conv")
    pads = graph.integers([0, 0, 0, 0, 0, 0, *appended])
    y = graph.node("Pad", y, pads, graph.floats(0.0, "zero"), name=f"{op.output}.appended")
    if bias:
        y = graph.node("Add", y, w.per_channel(op.bias), name=f"{op.output}.biased")
    return activated(graph, op.activation, y, out.name)


@written.register
def _complete(op: Complete, w: Writer) -> str:
    graph, out, sums = w.graph, w.program.value(op.output), w.read(op.inputs[1])
    weight = whole_weight(op, w.array(op.weight), w.program.value(op.inputs[0]))
    x = w.read(op.inputs[0])
    rest = graph.node("Conv", x, graph.floats(weight, op.weight), **geometry(op), name=f"{op.output}.rest")
    whole = graph.node("Add", sums, rest, name=f"{op.output}.whole")
    opened = _normed(w, whole, op.open_scale, op.open_shift, op.output)
    closed = _normed(w, sums, op.scale, op.shift, op.output)
    y = graph.node("Where", spread(w, op.gate, out, as_bool=True), opened, closed, name=f"{op.output}.chosen")
    if len(op.inputs) > 2:
        y = graph.node("Add", y, w.read(op.inputs[2]), name=f"{op.output}.sum")
    return activated(graph, op.activation, y, op.output)


def whole_weight(op: Completing, weight: np.ndarray, x: Value) -> np.ndarray:
    """The weights of a completion as those of a convolution of all inputs [out, in, ..]: zeros for what sums know."""
    if op.parts == 1:
        return weight
    own, outs = x.channels // op.parts, len(weight) // op.parts
    whole = np.zeros((len(weight), x.channels, *weight.shape[2:]), weight.dtype)
    for part in range(op.parts):
        others = np.delete(np.arange(x.channels), np.s_[part * own : (part + 1) * own])
        rows = slice(part * outs, (part + 1) * outs)
        whole[rows, others] = weight[rows]
    return whole


def _normed(w: Writer, x: str, scale: str, shift: str, name: str) -> str:
    for kind, array in (("Mul", scale), ("Add", shift)):
        if array:
            x = w.graph.node(kind, x, w.per_channel(array), name=f"{name}.normed")
    return x
