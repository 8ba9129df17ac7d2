"""Norms over positions and channels, and what is computed from the channels of each position."""

from typing import Any

from torch import Tensor

from convgate.engine.lowering import layers
from convgate.engine.lowering.draft import Context, Symbol, Unsupported
from convgate.engine.program import GroupNorm, OverChannels, Reshape, Softmax

__all__ = ["group_norm", "instance_norm", "maximum_of", "mean", "one_dimensional", "softmax"]


def group_norm(
    c: Context, x: Symbol, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Symbol:
    """`torch.nn.functional.group_norm`."""
    c.draft.value_of(x)
    out = c.draft.new(c.name, x.shape)
    scale, shift = (
        c.draft.array(f"{c.name}.{key}", array) if array is not None else ""
        for key, array in (("scale", weight), ("shift", bias))
    )
    c.draft.emit(GroupNorm((x.value,), out.value, scale, shift, float(eps), num_groups))
    return out


def instance_norm(c: Context, m: Any, x: Symbol) -> Symbol:
    """`torch.nn.InstanceNorm2d`: a group for each channel."""
    if m.track_running_stats:
        return layers.batch_norm(c.draft, c.name, x, m.running_mean, m.running_var, m.weight, m.bias, m.eps)
    return group_norm(c, x, c.draft.value_of(x).channels, m.weight, m.bias, m.eps)


def softmax(c: Context, x: Symbol, dim: int | None = None, dtype: Any = None, **_: Any) -> Symbol:
    """`torch.softmax` over channels."""
    c.draft.value_of(x)
    if dim not in (1, -len(x.shape)) or dtype is not None:
        raise Unsupported("a softmax over something else than channels")
    out = c.draft.new(c.name, x.shape)
    c.draft.emit(Softmax((x.value,), out.value))
    return out


def _reduced(c: Context, x: Symbol, dim: Any, keepdim: bool, maximum: bool) -> Symbol:
    value = c.draft.value_of(x)
    axes = {d % 4 for d in ((dim,) if isinstance(dim, int) else dim or ())}
    if len(x.shape) != 3:
        raise Unsupported("a mean or maximum of something else than a map")
    if axes == {2, 3}:
        return layers.pool_to_grid(c.draft, c.name, x, 1, vector=not keepdim, maximum=maximum)
    if axes in ({2}, {3}) and keepdim:
        grid = (1, None) if axes == {2} else (None, 1)
        return layers.pool_to_grid(c.draft, c.name, x, grid, maximum=maximum)
    if axes != {1} or not keepdim:
        raise Unsupported("a mean or maximum over something else than channels or positions")
    out = c.draft.new(c.name, (1, value.height, value.width))
    c.draft.emit(OverChannels((x.value,), out.value, maximum))
    return out


def mean(c: Context, x: Symbol, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Symbol:
    """`torch.mean` over channels or positions."""
    if dtype is not None:
        raise Unsupported("a mean in another type")
    return _reduced(c, x, dim, keepdim, False)


def maximum_of(c: Context, x: Symbol, dim: Any = (), keepdim: bool = False) -> Symbol:
    """`torch.amax` over channels or positions."""
    return _reduced(c, x, dim, keepdim, True)


def one_dimensional(
    c: Context,
    x: Symbol,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Symbol:
    """`torch.nn.functional.conv1d` over the channels of a vector, viewed as [N, 1, channels]: ECA's."""
    value = c.draft.plain(x)
    if x.shape != (1, value.channels) or value.height * value.width > 1 or isinstance(padding, str):
        raise Unsupported("a 1-d convolution of something else than a vector's channels")
    step, around, spread = (v if isinstance(v, int) else v[0] for v in (stride, padding, dilation))
    line = c.draft.new(f"{c.name}.line", (1, 1, value.channels))
    c.draft.emit(Reshape((x.value,), line.value))
    how = (1, step), (0, around), (1, spread), groups
    out = layers.convolve(c.draft, f"{c.name}.conv", line, weight.unsqueeze(2), bias, *how, layer=c.name)
    channels, _, length = out.shape
    if channels != 1:
        raise Unsupported("a 1-d convolution to several channels")
    back = c.draft.new(c.name, (length, 1, 1))
    c.draft.emit(Reshape((out.value,), back.value))
    return c.draft.view(back, (1, length))
