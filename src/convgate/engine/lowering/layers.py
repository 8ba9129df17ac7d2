"""Layers as operations: what convolutions, norms, pools and activations become."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.engine.lowering.draft import Draft, Symbol, Unsupported
from convgate.engine.program import Activate, Activation, Add, Affine, Conv, ConvTranspose, Pad, Pick, Pool, PoolToGrid

__all__ = [
    "activate",
    "affine",
    "batch_norm",
    "convolve",
    "convolve_transposed",
    "excess",
    "is_per_channel",
    "linear",
    "odd_positions",
    "pad",
    "pool",
    "pool_to_grid",
    "settled",
    "shuffle",
    "subsample",
]


def convolve(
    draft: Draft,
    hint: str,
    x: Symbol,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layer: str = "",
) -> Symbol:
    """`torch.nn.functional.conv2d`. `hint` is the layer's name in the ledger, unless that is given."""
    if not isinstance(x, Symbol) or len(x.shape) != 3 or x.last:
        raise Unsupported("a convolution of something else than a feature map")
    if weight.dim() != 4:
        raise Unsupported(f"a {weight.dim() - 2}-d convolution")
    (sy, sx), (dy, dx) = _pair(stride), _pair(dilation)
    _, height, width = x.shape
    (ky, kx) = weight.shape[2:]
    if padding == "same":
        # As PyTorch: the odd element at the end.
        total_y, total_x = dy * (ky - 1), dx * (kx - 1)
        around = (total_y // 2, total_x // 2, total_y - total_y // 2, total_x - total_x // 2)
    else:
        py, px = (0, 0) if padding == "valid" else _pair(padding)
        around = (py, px, py, px)
    top, left, bottom, right = (a + b for a, b in zip(around, x.padding, strict=True))
    rows = (height + top + bottom - dy * (ky - 1) - 1) // sy + 1
    columns = (width + left + right - dx * (kx - 1) - 1) // sx + 1
    out = draft.new(hint, (weight.shape[0], rows, columns))
    draft.emit(
        Conv(
            inputs=(x.value,),
            output=out.value,
            weight=draft.array(f"{hint}.weight", weight),
            bias=draft.array(f"{hint}.bias", bias) if bias is not None else "",
            layer=layer or hint,
            stride=(sy, sx),
            padding=(top, left, bottom, right),
            dilation=(dy, dx),
            groups=groups,
        )
    )
    return out


def convolve_transposed(
    draft: Draft,
    hint: str,
    x: Symbol,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Symbol:
    """`torch.nn.functional.conv_transpose2d`; `hint` is the layer's name in the ledger."""
    value = draft.value_of(x)
    if len(x.shape) != 3 or weight.dim() != 4:
        raise Unsupported("a transposed convolution of something else than a feature map")
    step, around, more, spread = _pair(stride), _pair(padding), _pair(output_padding), _pair(dilation)
    rows, columns = (
        (size - 1) * step[a] - 2 * around[a] + spread[a] * (weight.shape[2 + a] - 1) + 1 + more[a]
        for a, size in enumerate((value.height, value.width))
    )
    out = draft.new(hint, (weight.shape[1] * groups, rows, columns))
    arrays = draft.array(f"{hint}.weight", weight), draft.array(f"{hint}.bias", bias) if bias is not None else ""
    draft.emit(ConvTranspose((x.value,), out.value, *arrays, hint, step, around, more, spread, groups))
    return out


def pad(
    draft: Draft, hint: str, x: Symbol, padding: tuple[int, int, int, int], mode: str = "constant", value: float = 0
) -> Symbol:
    """`torch.nn.functional.pad` with (top, left, bottom, right), written out."""
    channels, height, width = draft.values[x.value].shape
    top, left, bottom, right = padding
    out = draft.new(hint, (channels, height + top + bottom, width + left + right))
    draft.emit(Pad((x.value,), out.value, padding, mode, float(value)))
    return out


def settled(draft: Draft, hint: str, x: Symbol) -> Symbol:
    """The symbol with the zeros around it, which its reader would have put there, written out."""
    return pad(draft, f"{hint}.padded", Symbol(x.value, x.shape), x.padding) if any(x.padding) else x


def linear(draft: Draft, hint: str, x: Symbol, weight: Tensor, bias: Tensor | None) -> Symbol:
    """`torch.nn.functional.linear` of a vector, or of a flattened map: a convolution as large as the map."""
    value = draft.plain(x)
    if len(x.shape) != 1 or math.prod(x.shape) != value.channels * value.height * value.width:
        raise Unsupported("a linear layer of something else than a vector")
    kernel = weight.view(weight.shape[0], *value.shape)
    map_ = Symbol(x.value, value.shape)
    out = convolve(draft, hint, map_, kernel, bias)
    return Symbol(out.value, (weight.shape[0],))


def batch_norm(
    draft: Draft,
    hint: str,
    x: Symbol,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Symbol:
    """`torch.nn.functional.batch_norm` in evaluation, in float64 until its two vectors are stored."""
    value = draft.value_of(x)
    factor = (variance.double() + eps).rsqrt()
    scale = factor if weight is None else factor * weight.double()
    shift = -mean.double() * scale if bias is None else bias.double() - mean.double() * scale
    if scale.numel() != value.channels:
        raise Unsupported("a norm over something else than channels")
    out = draft.new(hint, x.shape)
    scale_name, shift_name = draft.array(f"{hint}.scale", scale), draft.array(f"{hint}.shift", shift)
    draft.emit(Affine((x.value,), out.value, scale_name, shift_name))
    return out


def excess(draft: Draft, hint: str, x: Symbol, norm: nn.BatchNorm2d, threshold: Tensor) -> Symbol:
    """What a `ThresholdHead` makes of each channel; the mean over a unit's channels is the decision's."""
    if norm.running_mean is None or norm.running_var is None:
        raise Unsupported("a norm over the batch")
    return batch_norm(draft, hint, x, norm.running_mean, norm.running_var, None, -threshold, norm.eps)


def affine(draft: Draft, hint: str, x: Symbol, factor: Tensor | float, summand: Tensor | float = 0) -> Symbol:
    """X * factor + summand: numbers, or tensors that are the same at every position."""
    draft.value_of(x)
    factors, summands = _per_channel(factor, x.shape), _per_channel(summand, x.shape)
    out = draft.new(hint, x.shape)
    names = draft.array(f"{hint}.scale", factors), draft.array(f"{hint}.shift", summands)
    draft.emit(Affine((x.value,), out.value, *names))
    return out


def activate(draft: Draft, hint: str, x: Symbol, activation: Activation) -> Symbol:
    """An activation of a tensor of any shape."""
    value = draft.plain(x)
    out = draft.new(hint, value.shape)
    draft.emit(Activate((x.value,), out.value, activation))
    return draft.view(out, x.shape)


def shuffle(draft: Draft, hint: str, x: Symbol, groups: int) -> Symbol:
    """Channels [groups, C / groups] as [C / groups, groups]: `torch.nn.functional.channel_shuffle`."""
    value = draft.plain(x)
    size = value.channels // groups
    out = draft.new(hint, value.shape)
    draft.emit(Pick((x.value,), out.value, tuple(i * size + j for j in range(size) for i in range(groups))))
    return out


def pool(
    draft: Draft,
    hint: str,
    x: Symbol,
    kind: str,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Symbol:
    """`max_pool2d` or `avg_pool2d`."""
    value = draft.value_of(x)
    if divisor_override is not None:
        raise Unsupported("an average with a given divisor")
    kernel, padded, dilated = _pair(kernel_size), _pair(padding), _pair(dilation)
    step = kernel if stride is None or stride == [] else _pair(stride)
    like = torch.empty(1, 1, value.height, value.width, device="meta")
    shape = F.max_pool2d(like, kernel, step, padded, dilated, ceil_mode).shape[2:]
    out = draft.new(hint, (value.channels, *shape))
    draft.emit(Pool((x.value,), out.value, kind, kernel, step, padded, dilated, count_include_pad, ceil_mode))
    return out


def subsample(draft: Draft, hint: str, x: Symbol, stride: tuple[int, int]) -> Symbol:
    """x[:, :, ::stride[0], ::stride[1]]: windows of one element."""
    value = draft.value_of(x)
    out = draft.new(hint, (value.channels, -(-value.height // stride[0]), -(-value.width // stride[1])))
    draft.emit(Pool((x.value,), out.value, "max", (1, 1), stride))
    return out


def odd_positions(draft: Draft, hint: str, x: Symbol, axis: int) -> Symbol:
    """The positions 1, 3, 5, .. of an even number of rows (axis 0) or columns (1).

    No operation begins at a position other than the first: twice the mean of a pair, less its first, is its second.
    """
    pair = (2, 1) if axis == 0 else (1, 2)
    both = affine(draft, hint, pool(draft, hint, x, "average", pair, pair), 2)
    first = affine(draft, hint, subsample(draft, hint, x, pair), -1)
    out = draft.new(hint, both.shape)
    draft.emit(Add((both.value, first.value), out.value))
    return out


def pool_to_grid(
    draft: Draft, hint: str, x: Symbol, size: Any, *, vector: bool = False, maximum: bool = False
) -> Symbol:
    """`adaptive_avg_pool2d` or `adaptive_max_pool2d`; with `vector`, of all positions, as a vector."""
    value = draft.value_of(x)
    rows, columns = (size, size) if isinstance(size, int) or size is None else size
    shape = (value.channels, rows or value.height, columns or value.width)
    if (rows, columns) == (None, None):
        out = x
    else:
        # Also where cells are of one position: for larger images they are not.
        out = draft.new(hint, shape)
        draft.emit(PoolToGrid((x.value,), out.value, maximum, (rows or 0, columns or 0)))
    return Symbol(out.value, shape[:1]) if vector else out


def is_per_channel(constant: Any, shape: tuple[int, ...]) -> bool:
    """Whether a constant is the same at every position of tensors [N, *shape]."""
    try:
        return _per_channel(constant, shape) is not None
    except (Unsupported, RuntimeError):
        return False


def _per_channel(constant: Tensor | float, shape: tuple[int, ...]) -> Tensor:
    """A constant that is broadcast over tensors [N, *shape], as [C]."""
    given = torch.as_tensor(constant, dtype=torch.float64)
    over_positions = given.shape[max(0, given.dim() - len(shape) + 1) :]
    if given.dim() > len(shape) + 1 or given.shape[: -len(shape)] not in ((), (1,)) or set(over_positions) - {1}:
        raise Unsupported(f"a constant of shape {list(given.shape)} for a tensor [N, {', '.join(map(str, shape))}]")
    return given.expand(1, *shape)[0].reshape(shape[0], -1)[:, 0]


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        raise Unsupported(f"padding {value!r}")
    first, second = (value, value) if isinstance(value, int) else tuple(value) * (2 if len(value) == 1 else 1)
    return int(first), int(second)
