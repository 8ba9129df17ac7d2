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

from convgate.engine.lowering import activations, arithmetic, channels_last, layers, norms, partial, resampling, views
from convgate.engine.lowering.channels_last import both
from convgate.engine.lowering.draft import Context, GateSymbol, Rowed, Symbol, Unsupported
from convgate.engine.program import Concat, FillClosed, Mask, PoolToGrid
from convgate.gating import (
    NO_REACH,
    ThresholdHead,
    average_pool,
    base_path,
    complete,
    fill_closed,
    mask_channels,
    mask_positions,
)

__all__ = ["FUNCTIONS", "IN_PLACE", "METHODS", "MODULES", "PADS"]

Handler = Callable[..., Any]


def _same(c: Context, x: Any, *args: Any, **kwargs: Any) -> Any:
    return x


def _list(x: Any) -> list[Any]:
    if not isinstance(x, list):
        raise Unsupported("appending to something else than a list")
    return x


def _concat(c: Context, tensors: Any, dim: int = 0, axis: int | None = None) -> Symbol | Rowed:
    if rows := views.concatenated_rows(c, tensors, dim if axis is None else axis):
        return rows
    values = [c.draft.value_of(t) for t in tensors]
    rank = len(tensors[0].shape) + 1
    if (dim if axis is None else axis) not in (1, 1 - rank):
        raise Unsupported("a concatenation along something else than channels")
    channels = sum(value.channels for value in values)
    out = c.draft.new(c.name, (channels, *tensors[0].shape[1:]))
    c.draft.emit(Concat(tuple(t.value for t in tensors), out.value))
    return out


def _max_pool(
    c: Context,
    x: Symbol,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Symbol:
    _check_indices(return_indices)
    return layers.pool(c.draft, c.name, x, "max", kernel_size, stride, padding, dilation, ceil_mode)


def _max_pool_to_grid(c: Context, x: Symbol, output_size: Any, return_indices: bool = False) -> Symbol:
    _check_indices(return_indices)
    return layers.pool_to_grid(c.draft, c.name, x, output_size, maximum=True)


def _check_indices(returned: bool) -> None:
    if returned:
        raise Unsupported("a pool that also returns indices")


def _gate_pool(c: Context, x: Symbol, grid: Any) -> Symbol:
    """A gate's view of a map; what is pooled from a finer grid here is pooled from the map in a program."""
    writers = {op.output: op for op in c.draft.operations if isinstance(op, PoolToGrid)}
    if x.value in writers:
        map_ = c.draft.values[writers[x.value].inputs[0]]
        x = Symbol(map_.name, map_.shape)
    return layers.pool_to_grid(c.draft, c.name, x, grid)


def _masked_positions(c: Context, x: Symbol, mask: Any, reach: tuple[int, int] = NO_REACH) -> Symbol:
    if not isinstance(mask, GateSymbol):
        raise Unsupported("a mask that no gate decided")
    c.draft.value_of(x)
    out = c.draft.new(c.name, x.shape)
    c.draft.emit(Mask((x.value,), out.value, mask.gate, reach))
    return out


def _masked_channels(c: Context, x: Symbol, mask: Any, group: int = 1) -> Symbol:
    return _masked_positions(c, x, mask)  # the program's gate knows its group


def _filled(c: Context, x: Symbol, mask: Any, filling: Symbol) -> Symbol:
    if not isinstance(mask, GateSymbol):
        raise Unsupported("a mask that no gate decided")
    out = c.draft.new(c.name, x.shape)
    c.draft.emit(FillClosed((c.draft.value_of(x).name, c.draft.value_of(filling).name), out.value, mask.gate))
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
    **channels_last.by_element(activations.FUNCTIONS),
    operator.add: both(arithmetic.add),
    operator.iadd: both(arithmetic.add),
    torch.add: both(arithmetic.add),
    operator.sub: both(arithmetic.subtract),
    operator.isub: both(arithmetic.subtract),
    torch.sub: both(arithmetic.subtract),
    operator.mul: both(arithmetic.multiply),
    operator.imul: both(arithmetic.multiply),
    torch.mul: both(arithmetic.multiply),
    operator.truediv: both(arithmetic.divide),
    operator.itruediv: both(arithmetic.divide),
    torch.div: both(arithmetic.divide),
    torch.true_divide: both(arithmetic.divide),
    operator.neg: both(arithmetic.negative),
    torch.neg: both(arithmetic.negative),
    torch.maximum: arithmetic.maximum,
    torch.minimum: arithmetic.minimum,
    torch.cat: _concat,
    torch.concat: _concat,
    torch.chunk: views.chunk,
    torch.split: views.split,
    torch.flatten: views.flatten,
    torch.mean: norms.mean,
    torch.amax: norms.maximum_of,
    torch.softmax: norms.softmax,
    F.softmax: lambda c, x, dim=None, _stacklevel=3, dtype=None: norms.softmax(c, x, dim, dtype),
    F.group_norm: norms.group_norm,
    F.conv1d: norms.one_dimensional,
    F.pixel_shuffle: resampling.pixel_shuffle,
    F.pixel_unshuffle: resampling.pixel_unshuffle,
    F.conv_transpose2d: lambda c, x, weight, bias=None, *a, **k: layers.convolve_transposed(
        c.draft, c.name, x, weight, bias, *a, **k
    ),
    F.adaptive_max_pool2d: _max_pool_to_grid,
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
    F.interpolate: resampling.interpolate,
    F.prelu: activations.prelu,
    F.dropout: _dropout,
    stochastic_depth: lambda c, x, p, mode, training=True: _dropout(c, x, p, training),
    F.conv2d: lambda c, x, weight, bias=None, *a, **k: layers.convolve(c.draft, c.name, x, weight, bias, *a, **k),
    torch.conv2d: lambda c, x, weight, bias=None, *a, **k: layers.convolve(c.draft, c.name, x, weight, bias, *a, **k),
    F.linear: channels_last.linear,
    F.layer_norm: channels_last.layer_norm,
    F.batch_norm: _batch_norm,
    F.max_pool2d: _max_pool,
    F.avg_pool2d: lambda c, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, d=None: (
        layers.pool(c.draft, c.name, x, "average", kernel_size, stride, padding, 1, ceil_mode, count_include_pad, d)
    ),
    F.adaptive_avg_pool2d: lambda c, x, output_size: layers.pool_to_grid(c.draft, c.name, x, output_size),
    base_path: lambda c, x, *how: partial.base_path(c.draft, c.name, x, *how),
    complete: _completed,
    average_pool: _gate_pool,
    mask_positions: _masked_positions,
    mask_channels: _masked_channels,
    fill_closed: _filled,
}
"""Function -> handler(context, *arguments)."""

METHODS: dict[str, Handler] = {
    "append": lambda c, x, item: _list(x).append(item),
    "extend": lambda c, x, items: _list(x).extend(items),
    **channels_last.by_element(activations.METHODS),
    "add": both(arithmetic.add),
    "add_": both(arithmetic.add),
    "div": both(arithmetic.divide),
    "div_": both(arithmetic.divide),
    "mul": both(arithmetic.multiply),
    "mul_": both(arithmetic.multiply),
    "maximum": arithmetic.maximum,
    "minimum": arithmetic.minimum,
    "neg": arithmetic.negative,
    "chunk": views.chunk,
    "split": views.split,
    "contiguous": _same,
    "dim": views.rank,
    "expand": views.expand,
    "expand_as": views.expand_as,
    "flatten": views.flatten,
    "mean": norms.mean,
    "amax": norms.maximum_of,
    "prelu": activations.prelu,
    "softmax": norms.softmax,
    "permute": views.permute,
    "reshape": views.view,
    "size": views.size,
    "squeeze": views.squeeze,
    "sub": both(arithmetic.subtract),
    "sub_": both(arithmetic.subtract),
    "transpose": views.transpose,
    "unsqueeze": views.unsqueeze,
    "view": views.view,
}
"""Method name -> handler(context, self, *arguments)."""


def _conv_module(c: Context, m: nn.Conv2d, x: Symbol) -> Symbol:
    if m.padding_mode != "zeros":
        left, right, top, bottom = m._reversed_padding_repeated_twice
        x = layers.settled(c.draft, c.name, x)
        x = layers.pad(c.draft, f"{c.name}.padded", x, (top, left, bottom, right), m.padding_mode)
        return layers.convolve(c.draft, c.name, x, m.weight, m.bias, m.stride, 0, m.dilation, m.groups)
    return layers.convolve(c.draft, c.name, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)


def _line_module(c: Context, m: nn.Conv1d, x: Symbol) -> Symbol:
    if m.padding_mode != "zeros":
        raise Unsupported(f"a 1-d convolution with padding mode {m.padding_mode!r}")
    return norms.one_dimensional(c, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)


def _norm_module(c: Context, m: Any, x: Symbol) -> Symbol:
    if m.running_mean is None:
        raise Unsupported("a norm over the batch")
    return layers.batch_norm(c.draft, c.name, x, m.running_mean, m.running_var, m.weight, m.bias, m.eps)


def _average_pool_module(c: Context, m: nn.AvgPool2d, x: Symbol) -> Symbol:
    args = (m.kernel_size, m.stride, m.padding, 1, m.ceil_mode, m.count_include_pad, m.divisor_override)
    return layers.pool(c.draft, c.name, x, "average", *args)


MODULES: dict[type, Handler] = {
    **channels_last.by_element(activations.MODULES),
    nn.Conv2d: _conv_module,
    nn.ConvTranspose2d: lambda c, m, x: layers.convolve_transposed(
        c.draft, c.name, x, m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation
    ),
    nn.Conv1d: _line_module,
    nn.GroupNorm: lambda c, m, x: norms.group_norm(c, x, m.num_groups, m.weight, m.bias, m.eps),
    nn.InstanceNorm2d: norms.instance_norm,
    nn.Softmax: lambda c, m, x: norms.softmax(c, x, m.dim),
    nn.Softmax2d: lambda c, m, x: norms.softmax(c, x, 1),
    nn.PixelShuffle: lambda c, m, x: resampling.pixel_shuffle(c, x, m.upscale_factor),
    nn.PixelUnshuffle: lambda c, m, x: resampling.pixel_unshuffle(c, x, m.downscale_factor),
    nn.AdaptiveMaxPool2d: lambda c, m, x: _max_pool_to_grid(c, x, m.output_size, m.return_indices),
    nn.Linear: lambda c, m, x: channels_last.linear(c, x, m.weight, m.bias),
    nn.LayerNorm: lambda c, m, x: channels_last.layer_norm(c, x, m.normalized_shape, m.weight, m.bias, m.eps),
    nn.BatchNorm2d: _norm_module,
    nn.BatchNorm1d: _norm_module,
    nn.SyncBatchNorm: _norm_module,
    nn.MaxPool2d: lambda c, m, x: _max_pool(
        c, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    ),
    nn.AvgPool2d: _average_pool_module,
    nn.AdaptiveAvgPool2d: lambda c, m, x: layers.pool_to_grid(c.draft, c.name, x, m.output_size),
    nn.PReLU: lambda c, m, x: activations.prelu(c, x, m.weight),
    nn.Upsample: resampling.module,
    nn.UpsamplingNearest2d: resampling.module,
    nn.UpsamplingBilinear2d: resampling.module,
    nn.Identity: lambda c, m, x: x,
    ThresholdHead: lambda c, m, x: layers.excess(c.draft, c.name, x, m.norm, m.threshold),
    nn.Dropout: lambda c, m, x: x,
    nn.Dropout2d: lambda c, m, x: x,
    nn.ChannelShuffle: lambda c, m, x: views.shuffle(c, x, m.groups),
    nn.Flatten: lambda c, m, x: views.flatten(c, x, m.start_dim, m.end_dim),
}
"""Module class (exactly that one) -> handler(context, module, *arguments). Other modules are looked into."""

PADS: frozenset[Any] = frozenset({F.pad, F.conv2d, torch.conv2d, nn.Conv2d, nn.Identity, "append", "extend"})
"""What takes zeros that are still to be put around a map, or keeps it as it is; others get them written out."""

IN_PLACE: frozenset[Any] = frozenset(
    {
        *(operator.iadd, operator.isub, operator.imul, operator.itruediv),
        *("add_", "sub_", "mul_", "div_"),
        *activations.IN_PLACE,
    }
)
"""Functions and methods that overwrite their first argument; others do when they are called with inplace=True."""
