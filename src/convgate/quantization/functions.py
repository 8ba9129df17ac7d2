"""Activations as tables: the function of every integer of 8 bits, rounded to the integers of another scale."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from convgate.engine.program import ACTIVATIONS, Activation, Element, Value

__all__ = ["activated", "clamp_of", "table"]


def _softplus(x: np.ndarray, beta: float, threshold: float) -> np.ndarray:
    return np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _elu(x: np.ndarray, alpha: float, scale: float, inside: float) -> np.ndarray:
    return np.asarray(scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(inside * x, 0))))


_FUNCTIONS: Mapping[str, Callable[..., np.ndarray]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "elu": _elu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "tanh": np.tanh,
    "softplus": _softplus,
    "clamp": lambda x, low, high: np.clip(x, low, high),
}
assert _FUNCTIONS.keys() == ACTIVATIONS.keys()


def activated(activation: Activation, x: np.ndarray) -> np.ndarray:
    """float64 of the shape of `x`: the activation of each element."""
    return _FUNCTIONS[activation.name](np.asarray(x, np.float64), *activation.parameters)


def table(activation: Activation, read: Value, written: Value) -> np.ndarray:
    """The table of a `Lookup` from one value of integers to another: [256], of the type of what is written."""
    first = -128 if read.element is Element.INT8 else 0
    units = activated(activation, (np.arange(256) + first) * read.scale) / written.scale
    return np.clip(np.rint(units), *written.element.limits).astype(written.element.value)


def clamp_of(activation: Activation) -> tuple[float, float] | None:
    """The least and the greatest result of an activation that only clamps and keeps zero; None for others.

    >>> clamp_of(Activation("relu6")), clamp_of(Activation("tanh"))
    ((0.0, 6.0), None)
    """
    limits = {"none": (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
    found = activation.parameters if activation.name == "clamp" else limits.get(activation.name)
    if found is None or not found[0] <= 0 <= found[1]:
        return None
    return found[0], found[1]
