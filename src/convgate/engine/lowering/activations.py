"""Activations: the functions, methods and modules that compute one, and how each becomes a `program.Activation`."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.engine.lowering import layers
from convgate.engine.lowering.draft import Context, Symbol, Unsupported
from convgate.engine.program import Activation, PRelu

__all__ = ["FUNCTIONS", "IN_PLACE", "METHODS", "MODULES", "clamp", "prelu"]

Handler = Callable[..., Any]

_SELU = (1.6732632423543772, 1.0507009873554805, 1.0)
"""SELU's alpha and scale (Klambauer et al., 2017, equation 2), and an input scale of 1."""


def _emit(c: Context, x: Symbol, name: str, *parameters: Any) -> Symbol:
    numbers = tuple(float(parameter) for parameter in parameters)
    return layers.activate(c.draft, c.name, x, Activation(name, numbers))


def _plain(name: str) -> Handler:
    return lambda c, x, inplace=False: _emit(c, x, name)


def _leaky(c: Context, x: Symbol, negative_slope: float = 0.01, inplace: bool = False) -> Symbol:  # noqa: ARG001
    return _emit(c, x, "leaky_relu", negative_slope)


def _elu(c: Context, x: Symbol, alpha: float = 1.0, inplace: bool = False) -> Symbol:  # noqa: ARG001
    return _emit(c, x, "elu", alpha, 1, 1)


def _celu(c: Context, x: Symbol, alpha: float = 1.0, inplace: bool = False) -> Symbol:  # noqa: ARG001
    return _emit(c, x, "elu", alpha, 1, 1 / alpha)


def _selu(c: Context, x: Symbol, inplace: bool = False) -> Symbol:  # noqa: ARG001
    return _emit(c, x, "elu", *_SELU)


def _gelu(c: Context, x: Symbol, approximate: str = "none") -> Symbol:
    return _emit(c, x, "gelu" if approximate == "none" else "gelu_tanh")


def _softplus(c: Context, x: Symbol, beta: float = 1, threshold: float = 20) -> Symbol:
    return _emit(c, x, "softplus", beta, threshold)


def prelu(c: Context, x: Symbol, weight: Tensor) -> Symbol:
    """`torch.nn.functional.prelu`, with one slope or one for each channel."""
    value = c.draft.value_of(x)
    if weight.numel() == 1:
        return _leaky(c, x, weight.item())
    if weight.numel() != value.channels:
        raise Unsupported(f"{weight.numel()} slopes for {value.channels} channels")
    out = c.draft.new(c.name, x.shape)
    c.draft.emit(PRelu((x.value,), out.value, c.draft.array(f"{c.name}.slope", weight)))
    return out


def clamp(c: Context, x: Symbol, low: Any = None, high: Any = None, **named: Any) -> Symbol:
    """`torch.clamp` to numbers."""
    low, high = (named.get(name, given) for name, given in (("min", low), ("max", high)))
    if any(isinstance(limit, Symbol | Tensor) for limit in (low, high)):
        raise Unsupported("values clamped to something else than numbers")
    if low == 0 and high in (6, None):
        return _emit(c, x, "relu" if high is None else "relu6")
    return _emit(c, x, "clamp", -math.inf if low is None else low, math.inf if high is None else high)


def _clamp_min(c: Context, x: Symbol, limit: Any = None, **named: Any) -> Symbol:
    return clamp(c, x, named.get("min", limit))


def _clamp_max(c: Context, x: Symbol, limit: Any = None, **named: Any) -> Symbol:
    return clamp(c, x, None, named.get("max", limit))


_PLAIN = ("relu", "relu6", "hardswish", "silu", "sigmoid", "hardsigmoid", "mish", "tanh")

_IN_PLACE: dict[str, Handler] = {
    "clamp_": clamp,
    "clamp_min_": _clamp_min,
    "clamp_max_": _clamp_max,
    "relu_": _plain("relu"),
    "sigmoid_": _plain("sigmoid"),
    "tanh_": _plain("tanh"),
}

IN_PLACE: frozenset[Any] = frozenset(
    {
        *_IN_PLACE,
        torch.relu_,
        torch.sigmoid_,
        torch.tanh_,
        torch.clamp_,
        F.leaky_relu_,
        F.elu_,
        torch.selu_,
        torch.celu_,
    }
)
"""Functions and methods that overwrite their argument."""

FUNCTIONS: dict[Any, Handler] = {
    **{getattr(F, name): _plain(name) for name in _PLAIN},
    torch.relu: _plain("relu"),
    torch.relu_: _plain("relu"),
    torch.sigmoid: _plain("sigmoid"),
    torch.sigmoid_: _plain("sigmoid"),
    torch.tanh: _plain("tanh"),
    torch.tanh_: _plain("tanh"),
    torch.clamp: clamp,
    torch.clamp_: clamp,
    torch.clip: clamp,
    torch.clamp_min: _clamp_min,
    torch.clamp_max: _clamp_max,
    F.hardtanh: lambda c, x, min_val=-1.0, max_val=1.0, inplace=False: clamp(c, x, min_val, max_val),
    F.leaky_relu: _leaky,
    F.leaky_relu_: _leaky,
    F.elu: _elu,
    F.elu_: _elu,
    F.celu: _celu,
    torch.celu: _celu,
    torch.celu_: _celu,
    F.selu: _selu,
    torch.selu: _selu,
    torch.selu_: _selu,
    F.gelu: _gelu,
    F.softplus: _softplus,
}
"""Function -> handler(context, *arguments)."""

METHODS: dict[str, Handler] = {
    **_IN_PLACE,
    "clamp": clamp,
    "clip": clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "relu": _plain("relu"),
    "sigmoid": _plain("sigmoid"),
    "tanh": _plain("tanh"),
}
"""Method name -> handler(context, self, *arguments)."""


def _module(name: str) -> Handler:
    return lambda c, m, x: _emit(c, x, name)


MODULES: dict[type, Handler] = {
    nn.ReLU: _module("relu"),
    nn.ReLU6: _module("relu6"),
    nn.SiLU: _module("silu"),
    nn.Hardswish: _module("hardswish"),
    nn.Hardsigmoid: _module("hardsigmoid"),
    nn.Sigmoid: _module("sigmoid"),
    nn.Mish: _module("mish"),
    nn.Tanh: _module("tanh"),
    nn.Hardtanh: lambda c, m, x: clamp(c, x, m.min_val, m.max_val),
    nn.LeakyReLU: lambda c, m, x: _leaky(c, x, m.negative_slope),
    nn.ELU: lambda c, m, x: _elu(c, x, m.alpha),
    nn.CELU: lambda c, m, x: _celu(c, x, m.alpha),
    nn.SELU: lambda c, m, x: _selu(c, x),
    nn.GELU: lambda c, m, x: _gelu(c, x, m.approximate),
    nn.Softplus: lambda c, m, x: _softplus(c, x, m.beta, m.threshold),
}
"""Module class -> handler(context, module, input)."""
