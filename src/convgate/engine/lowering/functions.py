"""Which functions, methods and modules have a native form, and how each becomes operations.

A handler takes the translation under way (for its draft, and to name things) and the call's arguments, in which tensors
are symbols; it returns a symbol, or raises `Unsupported`.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import stochastic_depth

from convgate.engine.lowering import layers, partial
from convgate.engine.lowering.draft import Draft, Expanded, GateSymbol, Symbol, Unsupported
from convgate.engine.program import Add, Concat, Mask, Multiply, Slice
from convgate.gating import ThresholdHead, average_pool, base_path, complete, mask_channels, mask_positions

__all__ = ["FUNCTIONS", "IN_PLACE", "METHODS", "MODULES", "Context"]


class Context(Protocol):
    """What a handler may use: the draft, and the name of the call under way."""

    draft: Draft

    @property
    def name(self) -> str: ...


Handler = Callable[..., Any]


def _activation(kind: str) -> Handler:
    return lambda c, x, inplace=False, **_: layers.activate(c.draft, c.name, x, kind)


def _same(c: Context, x: Any, *args: Any, **kwargs: Any) -> Any:
    return x


def _add(c: Context, x: Any, y: Any, **kwargs: Any) -> Symbol:
    if kwargs.get("alpha", 1) != 1:
        raise Unsupported("an addition with a factor")
    return _binary(c, x, y, Add)


def _multiply(c: Context, x: Any, y: Any) -> Symbol:
    if isinstance(x, int | float):
        x, y = y, x
    if isinstance(y, int | float):
        return layers.scale(c.draft, c.name, x, y)
    return _binary(c, x, y, Multiply)


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


def _slice(c: Context, x: Symbol, begin: int, channels: int) -> Symbol:
    c.draft.value_of(x)
    out = c.draft.new(c.name, (channels, *x.shape[1:]))
    c.draft.emit(Slice((x.value,), out.value, begin))
    return out


def _split(c: Context, x: Symbol, size: Any, dim: int = 0) -> tuple[Symbol, ...]:
    value = c.draft.value_of(x)
    if dim not in (1, -len(x.shape)):
        raise Unsupported("a split along something else than channels")
    sizes = [min(size, value.channels - i) for i in range(0, value.channels, size)] if isinstance(size, int) else size
    return tuple(_slice(c, x, sum(sizes[:i]), n) for i, n in enumerate(sizes))


def _chunk(c: Context, x: Symbol, chunks: int, dim: int = 0) -> tuple[Symbol, ...]:
    return _split(c, x, -(-c.draft.value_of(x).channels // chunks), dim)


def _flatten(c: Context, x: Symbol, start_dim: int = 0, end_dim: int = -1) -> Symbol:
    if not isinstance(x, Symbol) or start_dim not in (1, -len(x.shape)) or end_dim not in (-1, len(x.shape)):
        raise Unsupported("a flattening that keeps or joins other dimensions")
    return c.draft.view(x, (math.prod(x.shape),))


def _view(c: Context, x: Symbol, *shape: Any) -> Symbol:
    batch, *sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    if not isinstance(x, Symbol) or batch not in (1, -1) or (batch, *sizes).count(-1) > 1:
        raise Unsupported(f"a view as {[batch, *sizes]}")
    known = math.prod(size for size in sizes if size != -1)
    return c.draft.view(x, tuple(math.prod(x.shape) // known if size == -1 else size for size in sizes))


def _transpose(c: Context, x: Symbol, first: int, second: int) -> Symbol:
    rank = _rank(x)
    order = list(range(rank))
    order[first], order[second] = second % rank, first % rank
    return _permute(c, x, *order)


def _permute(c: Context, x: Symbol, *order: Any) -> Symbol:
    wanted = order[0] if len(order) == 1 and not isinstance(order[0], int) else order
    if _rank(x) != 5 or [axis % 5 for axis in wanted] != [0, 2, 1, 3, 4]:
        raise Unsupported(f"dimensions in the order {list(wanted)}")
    groups, size, *extent = x.shape
    if groups * size != c.draft.plain(x).channels:
        raise Unsupported("a permutation of something else than groups of channels")
    out = layers.shuffle(c.draft, c.name, x, groups)
    c.draft.views.append((x.value, out.value))
    return c.draft.view(out, (size, groups, *extent))


def _shuffle(c: Context, x: Symbol, groups: int) -> Symbol:
    c.draft.value_of(x)
    return layers.shuffle(c.draft, c.name, x, groups)


def _expand_as(c: Context, x: Symbol, other: Any) -> Symbol | Expanded:
    c.draft.value_of(other)
    return _expand(c, x, 1, *other.shape)


def _expand(c: Context, x: Symbol, *shape: Any) -> Symbol | Expanded:
    value = c.draft.value_of(x)
    batch, *sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    wanted = tuple(own if size == -1 else size for own, size in zip(x.shape, sizes, strict=False))
    if batch not in (1, -1) or len(x.shape) != 3 or len(sizes) != 3 or wanted[0] != value.channels:
        raise Unsupported(f"an expansion to {[batch, *sizes]}")
    if wanted == x.shape:
        return x
    if (value.height, value.width) != (1, 1):
        raise Unsupported("an expansion of more than one element per channel")
    return Expanded(x, wanted)


def _mean(c: Context, x: Symbol, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Symbol:
    if not isinstance(x, Symbol) or len(x.shape) != 3 or {d % 4 for d in dim} != {2, 3}:
        raise Unsupported("a mean over something else than all positions")
    return layers.pool_to_grid(c.draft, c.name, x, 1, vector=not keepdim)


def _item(c: Context, x: Any, index: Any) -> Any:
    if not isinstance(x, Symbol):
        return x[index]
    value, everything = c.draft.value_of(x), slice(None)
    index = index if isinstance(index, tuple) else (index,)
    if index == (everything, everything, None, None) and len(x.shape) == 1:
        return c.draft.view(x, (value.channels, 1, 1))
    if len(index) < 2 or index[0] != everything or not all(isinstance(i, slice) for i in index) or len(x.shape) != 3:
        raise Unsupported(f"an index {index}")
    begin, end, step = index[1].indices(value.channels)
    if step == 1 and end - begin not in (0, value.channels):
        x = _slice(c, x, begin, end - begin)
    elif step != 1 or end - begin != value.channels:
        raise Unsupported(f"an index {index}")
    stride, odd = [1, 1], []
    for axis, (part, extent) in enumerate(zip(index[2:], (value.height, value.width), strict=False)):
        first, last, step = part.indices(extent)
        if (first, last, step, extent % 2) == (1, extent, 2, 0):
            odd.append(axis)
        elif first or last != extent or step < 1:
            raise Unsupported(f"an index {index}")
        else:
            stride[axis] = step
    part_of = x.value
    if max(stride) > 1:
        x = layers.subsample(c.draft, c.name, x, (stride[0], stride[1]))
    for axis in odd:
        x = layers.odd_positions(c.draft, c.name, x, axis)
        c.draft.views.append((part_of, x.value))
    return x


def _pad(c: Context, x: Symbol, pad: Any, mode: str = "constant", value: float | None = 0) -> Symbol:
    if not isinstance(x, Symbol) or len(x.shape) != 3 or mode != "constant" or value not in (0, None):
        raise Unsupported("padding with something else than zeros")
    left, right, top, bottom, front, back = [*pad, 0, 0, 0, 0, 0, 0][:6]
    if front or back:
        x = _slice(c, x, -front, x.shape[0] + front + back)
    if min(left, right, top, bottom) < 0:
        raise Unsupported("padding that crops")
    around = tuple(a + b for a, b in zip(x.padding, (top, left, bottom, right), strict=True))
    return Symbol(x.value, x.shape, around) if any(around) else x


def _squeeze(c: Context, x: Symbol, *dims: Any, dim: Any = None) -> Symbol:
    axes = dims or (() if dim is None else (dim,))
    axes = axes[0] if axes and not isinstance(axes[0], int) else axes
    gone = [axis % _rank(x) for axis in axes] or [2, 3]
    if 0 in gone:
        raise Unsupported("a squeeze of the batch")
    if not axes and c.draft.value_of(x).height * c.draft.value_of(x).width > 1:
        raise Unsupported("a squeeze of a feature map")
    return c.draft.view(x, tuple(size for axis, size in enumerate(x.shape, 1) if axis not in gone or size > 1))


def _unsqueeze(c: Context, x: Symbol, dim: int) -> Symbol:
    place = dim % (_rank(x) + 1)
    if not place:
        raise Unsupported("another dimension before the batch")
    return c.draft.view(x, (*x.shape[: place - 1], 1, *x.shape[place - 1 :]))


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


def _size(c: Context, x: Symbol, dim: int | None = None) -> Any:
    shape = torch.Size((1, *x.shape))
    return shape if dim is None else shape[dim]


def _rank(x: Any) -> int:
    """How many dimensions the tensor has, with the batch."""
    if not isinstance(x, Symbol):
        raise Unsupported(f"an argument that is no feature map ({type(x).__name__})")
    return 1 + len(x.shape)


def _attribute(c: Context, x: Any, name: str) -> Any:
    if isinstance(x, Symbol | Expanded | GateSymbol):
        if isinstance(x, Symbol) and name == "shape":
            return _size(c, x)
        if isinstance(x, Symbol) and name == "ndim":
            return _rank(x)
        raise Unsupported(f"the attribute {name} of a tensor")
    return getattr(x, name)


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
    operator.mul: _multiply,
    operator.imul: _multiply,
    torch.mul: _multiply,
    torch.cat: _concat,
    torch.concat: _concat,
    torch.chunk: _chunk,
    torch.split: _split,
    torch.flatten: _flatten,
    torch.mean: _mean,
    torch.squeeze: _squeeze,
    torch.unsqueeze: _unsqueeze,
    torch.reshape: _view,
    torch.transpose: _transpose,
    torch.permute: _permute,
    torch.channel_shuffle: _shuffle,
    operator.getitem: _item,
    getattr: _attribute,
    torch._assert: lambda c, *args: None,
    F.pad: _pad,
    F.relu: _activation("relu"),
    torch.relu: _activation("relu"),
    F.relu6: _activation("relu6"),
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
    "mul": _multiply,
    "mul_": _multiply,
    "chunk": _chunk,
    "split": _split,
    "contiguous": _same,
    "dim": lambda c, x: _rank(x),
    "expand": _expand,
    "expand_as": _expand_as,
    "flatten": _flatten,
    "mean": _mean,
    "permute": _permute,
    "relu": _activation("relu"),
    "relu_": _activation("relu"),
    "reshape": _view,
    "sigmoid": _activation("sigmoid"),
    "sigmoid_": _activation("sigmoid"),
    "size": _size,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "unsqueeze": _unsqueeze,
    "view": _view,
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
    nn.SiLU: _activation_module("silu"),
    nn.Hardswish: _activation_module("hardswish"),
    nn.Hardsigmoid: _activation_module("hardsigmoid"),
    nn.Sigmoid: _activation_module("sigmoid"),
    nn.Identity: lambda c, m, x: x,
    ThresholdHead: lambda c, m, x: layers.excess(c.draft, c.name, x, m.norm, m.threshold),
    nn.Dropout: lambda c, m, x: x,
    nn.Dropout2d: lambda c, m, x: x,
    nn.ChannelShuffle: lambda c, m, x: _shuffle(c, x, m.groups),
    nn.Flatten: lambda c, m, x: _flatten(c, x, m.start_dim, m.end_dim),
}
"""Module class (exactly that one) -> handler(context, module, *arguments). Other modules are looked into."""

IN_PLACE: frozenset[Any] = frozenset({operator.iadd, operator.imul, "add_", "mul_", "relu_", "sigmoid_"})
"""Functions and methods that overwrite their first argument; others do when they are called with inplace=True."""
