"""Functions of single elements, with the operators that runtimes know."""

import math

import numpy as np

from convgate.engine.program import Activate, Activation, Affine, PRelu
from convgate.onnx_export.graph import Graph
from convgate.onnx_export.operations import written
from convgate.onnx_export.writer import Writer

__all__ = ["activated"]

_PLAIN = {"relu": "Relu", "hardswish": "HardSwish", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def activated(graph: Graph, activation: Activation, x: str, name: str) -> str:
    """The tensor of an activation of `x`; `x` itself for the identity."""
    if not activation:
        return x
    if activation.name in _PLAIN:
        return graph.node(_PLAIN[activation.name], x, name=name)
    match activation.name, activation.parameters:
        case "relu6", _:
            return clamped(graph, x, 0.0, 6.0, name)
        case "clamp", (low, high):
            return clamped(graph, x, low, high, name)
        case "silu", _:
            return graph.node("Mul", x, graph.node("Sigmoid", x, name=f"{name}.sigmoid"), name=name)
        case "hardsigmoid", _:
            return graph.node("HardSigmoid", x, alpha=1 / 6, beta=0.5, name=name)
        case "leaky_relu", (slope,):
            return graph.node("LeakyRelu", x, alpha=slope, name=name)
        case "elu", (alpha, scale, inside):
            return _elu(graph, x, alpha, scale, inside, name)
        case "softplus", (beta, threshold):
            return _softplus(graph, x, beta, threshold, name)
        case "mish", _:
            soft = graph.node("Softplus", x, name=f"{name}.softplus")
            return graph.node("Mul", x, graph.node("Tanh", soft, name=f"{name}.tanh"), name=name)
        case "gelu", _:
            return _gelu(graph, x, _scaled(graph, x, math.sqrt(0.5), name), "Erf", name)
        case "gelu_tanh", _:
            cube = graph.node("Mul", graph.node("Mul", x, x, name=f"{name}.square"), x, name=f"{name}.cube")
            sum_ = graph.node("Add", x, _scaled(graph, cube, 0.044715, name), name=f"{name}.sum")
            return _gelu(graph, x, _scaled(graph, sum_, math.sqrt(2 / math.pi), name), "Tanh", name)
    raise AssertionError(f"the activation {activation}")


def clamped(graph: Graph, x: str, low: float, high: float, name: str) -> str:
    """min(max(x, low), high), where a limit may be infinite."""
    if (low, high) == (0.0, math.inf):
        return graph.node("Relu", x, name=name)
    limits = [graph.floats(limit, "limit") if math.isfinite(limit) else "" for limit in (low, high)]
    return graph.node("Clip", x, *(limits if limits[1] else limits[:1]), name=name)


def _scaled(graph: Graph, x: str, by: float, name: str) -> str:
    return x if by == 1 else graph.node("Mul", x, graph.floats(by), name=f"{name}.scaled")


def _elu(graph: Graph, x: str, alpha: float, scale: float, inside: float, name: str) -> str:
    """As programs define it: scale * (x if x > 0 else alpha * (exp(inside * x) - 1))."""
    if inside == 1:
        return _scaled(graph, graph.node("Elu", x, alpha=alpha, name=name), scale, name)
    above = graph.node("Relu", x, name=f"{name}.above")
    below = _scaled(graph, clamped(graph, x, -math.inf, 0.0, f"{name}.below"), inside, name)
    curve = graph.node("Elu", below, alpha=alpha, name=f"{name}.curve")
    return _scaled(graph, graph.node("Add", above, curve, name=name), scale, name)


def _softplus(graph: Graph, x: str, beta: float, threshold: float, name: str) -> str:
    """log(1 + exp(beta * x)) / beta, or x where beta * x is above the threshold."""
    inside = _scaled(graph, x, beta, name)
    curve = _scaled(graph, graph.node("Softplus", inside, name=f"{name}.curve"), 1 / beta, name)
    straight = graph.node("Greater", inside, graph.floats(threshold, "limit"), name=f"{name}.straight")
    return graph.node("Where", straight, x, curve, name=name)


def _gelu(graph: Graph, x: str, inside: str, function: str, name: str) -> str:
    """The product x * (1 + function(inside)) / 2."""
    curve = graph.node(function, inside, name=f"{name}.curve")
    above = graph.node("Add", curve, graph.floats(1.0, "one"), name=f"{name}.above")
    return _scaled(graph, graph.node("Mul", x, above, name=name), 0.5, name)


@written.register
def _activate(op: Activate, w: Writer) -> str:
    x = w.read(op.inputs[0])
    return activated(w.graph, op.activation, x, op.output)


@written.register
def _prelu(op: PRelu, w: Writer) -> str:
    slope = w.graph.floats(np.reshape(w.array(op.weight), (-1, 1, 1)), op.weight)
    return w.graph.node("PRelu", w.read(op.inputs[0]), slope, name=op.output)


@written.register
def _affine(op: Affine, w: Writer) -> str:
    scaled = w.graph.node("Mul", w.read(op.inputs[0]), w.per_channel(op.scale), name=f"{op.output}.scaled")
    shifted = w.graph.node("Add", scaled, w.per_channel(op.shift), name=f"{op.output}.shifted")
    return activated(w.graph, op.activation, shifted, op.output)
