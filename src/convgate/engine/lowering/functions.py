"""Which functions, methods and modules have a native form, and how each becomes operations.

A handler takes the translation under way (for its draft, and to name things) and the call's arguments, in which tensors
are symbols; it returns a symbol, or raises `Unsupported`.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import stochastic_depth

from convgate.engine.lowering import layers, partial, views
from convgate.engine.lowering.draft import Context, Expanded, GateSymbol, Symbol, Unsupported
from convgate.engine.program import Add, Concat, Mask, Multiply
from convgate.gating import ThresholdHead, average_pool, base_path, complete, mask_channels, mask_positions

__all__ = ["FUNCTIONS", "IN_PLACE", "METHODS", "MODULES"]

Handler = Callable[..., Any]

_CONSTANT = (int, float, torch.Tensor)


def _activation(kind: str) -> Handler:
    return lambda c, x, inplace=False, **_: layers.activate(c.draft, c.name, x, kind)


def _same(c: Context, x: Any, *args: Any, **kwargs: Any) -> Any:
    return x


def _add(c: Context, x: Any, y: Any, *, alpha: float = 1) -> Symbol:
    if isinstance(y, _CONSTANT):
        return layers.affine(c.draft, c.name, x, 1, y * alpha)
    if isinstance(x, _CONSTANT):
        return layers.affine(c.draft, c.name, y, alpha, x)
    return _binary(c, x, y if alpha == 1 else layers.affine(c.draft, c.name, y, alpha), Add)


def _subtract(c: Context, x: Any, y: Any, *, alpha: float = 1) -> Symbol:
    return _add(c, x, y, alpha=-alpha)


def _multiply(c: Context, x: Any, y: Any) -> Symbol:
    if isinstance(x, _CONSTANT):
        x, y = y, x
    if isinstance(y, _CONSTANT):
        return layers.affine(c.draft, c.name, x, y)
    return _binary(c, x, y, Multiply)


def _divide(c: Context, x: Any, y: Any) -> Symbol:
    if not isinstance(y, _CONSTANT):
        raise Unsupported("a division by something else than a constant")
    return layers.affine(c.draft, c.name, x, 1 / y)


def _clamp(c: Context, x: Any, low: Any = None, high: Any = None, **named: Any) -> Symbol:
    low, high = (named.get(name, given) for name, given in (("min", low), ("max", high)))
    if low != 0 or high not in (6, None):
        raise Unsupported(f"values clamped to {low} .. {high}")
    return layers.activate(c.draft, c.name, x, "relu" if high is None else "relu6")


def _binary(c: Context, x: Any, y: Any, kind: type[Add] | type[Multiply]) -> Symbol:
    if isinstance(x, Expanded):
        x, y = y, x
    if isinstance(y, Expanded):
        if not isinstance(x, Symbol) or x.shape != y.over:
            raise Unsupported(f"{kind.__name__.lower()} of a map that was expanded to {list(y.over)}")
        y = y.vector
    a, b = c.draft.value_of(x), c.draft.value_of(y)
    if a.height * a.width == 1 and b.height * b.width > 1:
        x, y, a, b = y, x, b, a
    if a.channels != b.channels or (b.height * b.width > 1 and (a.height, a.width) != (b.height, b.width)):
        raise Unsupported(f"{kind.__name__.lower()} of shapes {list(x.shape)} and {list(y.shape)}")
    if len(y.shape) == 1 and len(x.shape) == 3:
        raise Unsupported("a vector that would be broadcast over positions as PyTorch does not")
    out = c.draft.new(c.name, x.shape)
    c.draft.emit(kind((x.value, y.value), out.value))
    return out


def _concat(c: Context, tensors: Any, dim: int = 0, axis: int | None = None) -> Symbol:
    values = [c.draft.value_of(t) for t in tensors]
    rank = len(tensors[0].shape) + 1
    if (dim if axis is None else axis) not in (1, 1 - rank):
        raise Unsupported("a concatenation along something else than channels")
    channels = sum(value.channels for value in values)
    out = c.draft.new(c.name, (channels, *tensors[0].shape[1:]))
    c.draft.emit(Concat(tuple(t.value for t in tensors), out.value))
    return out


def _mean(c: Context, x: Symbol, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Symbol:
    axes = dim if isinstance(dim, tuple | list) else () if dim is None else (dim,)
    if not isinstance(x, Symbol) or len(x.shape) != 3 or {axis % 4 for axis in axes} != {2, 3}:
        raise Unsupported("a mean over something else than all positions")
    return layers.pool_to_grid(c.draft, c.name, x, 1, vector=not keepdim)


def _masked(c: Context, x: Symbol, mask: Any, group: int = 1) -> Symbol:
    if not isinstance(mask, GateSymbol):
        raise Unsupported("a mask that no gate decided")
    c.draft.value_of(x)
    out = c.draft.new(c.name, x.shape)
    c.draft.emit(Mask((x.value,), out.value, mask.gate))
    return out


def _completed(c: Context, full: Symbol, base: Symbol, mask: Any, group: int = 1) -> Symbol:
    if not isinstance(mask, GateSymbol):
        raise Unsupported("a mask that no gate decided")
    return partial.complete(c.draft, c.name, full, base, mask.gate)


def _batch_norm(
    c: Context,
    x: Symbol,
    mean: Any,
    variance: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Symbol:
    if training or mean is None:
        raise Unsupported("a norm over the batch")
    return layers.batch_norm(c.draft, c.name, x, mean, variance, weight, bias, eps)


def _dropout(c: Context, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if training and p:
        raise Unsupported("dropout that is not switched off")
    return x


FUNCTIONS: dict[Any, Handler] = {
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    operator.sub: _subtract,
    operator.isub: _subtract,
    torch.sub: _subtract,
    operator.mul: _multiply,
    operator.imul: _multiply,
    torch.mul: _multiply,
    operator.truediv: _divide,
    operator.itruediv: _divide,
    torch.div: _divide,
    torch.clamp: _clamp,
    torch.cat: _concat,
    torch.concat: _concat,
    torch.chunk: views.chunk,
    torch.split: views.split,
    torch.flatten: views.flatten,
    torch.mean: _mean,
    torch.squeeze: views.squeeze,
    torch.unsqueeze: views.unsqueeze,
    torch.reshape: views.view,
    torch.transpose: views.transpose,
    torch.permute: views.permute,
    torch.channel_shuffle: views.shuffle,
    operator.getitem: views.item,
    getattr: views.attribute,
    torch._assert: lambda c, *args: None,
    F.pad: views.pad,
    F.relu: _activation("relu"),
    torch.relu: _activation("relu"),
    F.relu6: _activation("relu6"),
    F.hardtanh: lambda c, x, min_val=-1.0, max_val=1.0, inplace=False: _clamp(c, x, min_val, max_val),
    F.silu: _activation("silu"),
    F.hardswish: _activation("hardswish"),
    F.hardsigmoid: _activation("hardsigmoid"),
    F.sigmoid: _activation("sigmoid"),
    torch.sigmoid: _activation("sigmoid"),
    F.dropout: _dropout,
    stochastic_depth: lambda c, x, p, mode, training=True: _dropout(c, x, p, training),
    F.conv2d: lambda c, x, weight, bias=None, *a, **k: layers.convolve(c.draft, c.name, x, weight, bias, *a, **k),
    torch.conv2d: lambda c, x, weight, bias=None, *a, **k: layers.convolve(c.draft, c.name, x, weight, bias, *a, **k),
    F.linear: lambda c, x, weight, bias=None: layers.linear(c.draft, c.name, x, weight, bias),
    F.batch_norm: _batch_norm,
    F.max_pool2d: lambda c, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False: (
        layers.pool(c.draft, c.name, x, "max", kernel_size, stride, padding, dilation, ceil_mode)
    ),
    F.avg_pool2d: lambda c, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, d=None: (
        layers.pool(c.draft, c.name, x, "average", kernel_size, stride, padding, 1, ceil_mode, count_include_pad, d)
    ),
    F.adaptive_avg_pool2d: lambda c, x, output_size: layers.pool_to_grid(c.draft, c.name, x, output_size),
    base_path: lambda c, x, *how: partial.base_path(c.draft, c.name, x, *how),
    complete: _completed,
    average_pool: lambda c, x, grid: layers.pool_to_grid(c.draft, c.name, x, grid),
    mask_positions: _masked,
    mask_channels: _masked,
}
"""Function -> handler(context, *arguments)."""

METHODS: dict[str, Handler] = {
    "add": _add,
    "add_": _add,
    "clamp": _clamp,
    "clamp_": _clamp,
    "div": _divide,
    "div_": _divide,
    "mul": _multiply,
    "mul_": _multiply,
    "chunk": views.chunk,
    "split": views.split,
    "contiguous": _same,
    "dim": views.rank,
    "expand": views.expand,
    "expand_as": views.expand_as,
    "flatten": views.flatten,
    "mean": _mean,
    "permute": views.permute,
    "relu": _activation("relu"),
    "relu_": _activation("relu"),
    "reshape": views.view,
    "sigmoid": _activation("sigmoid"),
    "sigmoid_": _activation("sigmoid"),
    "size": views.size,
    "squeeze": views.squeeze,
    "sub": _subtract,
    "sub_": _subtract,
    "transpose": views.transpose,
    "unsqueeze": views.unsqueeze,
    "view": views.view,
}
"""Method name -> handler(context, self, *arguments)."""


def _conv_module(c: Context, m: nn.Conv2d, x: Symbol) -> Symbol:
    if m.padding_mode != "zeros":
        raise Unsupported(f"a convolution with padding mode {m.padding_mode!r}")
    return layers.convolve(c.draft, c.name, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)


def _norm_module(c: Context, m: Any, x: Symbol) -> Symbol:
    if m.running_mean is None:
        raise Unsupported("a norm over the batch")
    return layers.batch_norm(c.draft, c.name, x, m.running_mean, m.running_var, m.weight, m.bias, m.eps)


def _max_pool_module(c: Context, m: nn.MaxPool2d, x: Symbol) -> Symbol:
    return layers.pool(c.draft, c.name, x, "max", m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)


def _average_pool_module(c: Context, m: nn.AvgPool2d, x: Symbol) -> Symbol:
    args = (m.kernel_size, m.stride, m.padding, 1, m.ceil_mode, m.count_include_pad, m.divisor_override)
    return layers.pool(c.draft, c.name, x, "average", *args)


def _activation_module(kind: str) -> Handler:
    return lambda c, m, x: layers.activate(c.draft, c.name, x, kind)


MODULES: dict[type, Handler] = {
    nn.Conv2d: _conv_module,
    nn.Linear: lambda c, m, x: layers.linear(c.draft, c.name, x, m.weight, m.bias),
    nn.BatchNorm2d: _norm_module,
    nn.BatchNorm1d: _norm_module,
    nn.SyncBatchNorm: _norm_module,
    nn.MaxPool2d: _max_pool_module,
    nn.AvgPool2d: _average_pool_module,
    nn.AdaptiveAvgPool2d: lambda c, m, x: layers.pool_to_grid(c.draft, c.name, x, m.output_size),
    nn.ReLU: _activation_module("relu"),
    nn.ReLU6: _activation_module("relu6"),
    nn.Hardtanh: lambda c, m, x: _clamp(c, x, m.min_val, m.max_val),
    nn.SiLU: _activation_module("silu"),
    nn.Hardswish: _activation_module("hardswish"),
    nn.Hardsigmoid: _activation_module("hardsigmoid"),
    nn.Sigmoid: _activation_module("sigmoid"),
    nn.Identity: lambda c, m, x: x,
    ThresholdHead: lambda c, m, x: layers.excess(c.draft, c.name, x, m.norm, m.threshold),
    nn.Dropout: lambda c, m, x: x,
    nn.Dropout2d: lambda c, m, x: x,
    nn.ChannelShuffle: lambda c, m, x: views.shuffle(c, x, m.groups),
    nn.Flatten: lambda c, m, x: views.flatten(c, x, m.start_dim, m.end_dim),
}
"""Module class (exactly that one) -> handler(context, module, *arguments). Other modules are looked into."""

IN_PLACE: frozenset[Any] = frozenset(
    {
        *(operator.iadd, operator.isub, operator.imul, operator.itruediv),
        *("add_", "sub_", "mul_", "div_", "clamp_", "relu_", "sigmoid_"),
    }
)
"""Functions and methods that overwrite their first argument; others do when they are called with inplace=True."""
