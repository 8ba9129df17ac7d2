"""Partial sums: a convolution over a part of its input channels, and its completion where a gate is open.

Source: CGNet (NeurIPS 2019) and its code, `CGConv2d`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.gating.masks import expand_channels

__all__ = ["OPERANDS", "base_path", "base_weights", "complete", "shuffle_channels", "shuffled_order"]


OPERANDS = "_convgate_operands"
"""An attribute of a convolution that rounds what it reads, and its weights, when it is called: a function (convolution,
what it reads) -> (that, weights) as it computes with them. The base path, which does not call it, asks there."""


def base_weights(
    out_channels: int, in_channels: int, parts: int, grouped: bool, device: torch.device | None = None
) -> Tensor:
    """Which weights of a convolution belong to its base path: bool [out_channels, in_channels, 1, 1].

    The first 1/`parts` of the input channels for every output; or, if `grouped`, for the i-th of the `parts` chunks of
    output channels the i-th chunk of the input channels. `parts` divides the input channels and, if `grouped`, the
    output channels.
    """
    reads = torch.arange(in_channels, device=device) // (in_channels // parts)
    outputs = torch.arange(out_channels, device=device)
    wants = outputs // (out_channels // parts) if grouped else torch.zeros_like(outputs)
    return (wants[:, None] == reads)[:, :, None, None]


def shuffled_order(channels: int, parts: int, device: torch.device | None = None) -> Tensor:
    """The order of channels after a shuffle: every `parts`-th of them comes from another chunk. int64 [channels]."""
    return torch.arange(channels, device=device).view(parts, -1).T.flatten()


def shuffle_channels(x: Tensor, parts: int) -> Tensor:
    """`x` [N, C, H, W] with its channels in the order of `shuffled_order`."""
    return x.unflatten(1, (parts, -1)).transpose(1, 2).flatten(1, 2)


def base_path(x: Tensor, conv: nn.Conv2d, parts: int, grouped: bool, shuffled: bool) -> Tensor:
    """What `conv` makes of 1/`parts` of the input channels of `x` [N, C, H, W]: the partial sums [N, O, H', W'].

    If `shuffled`, chunks are taken of the channels in shuffled order. In evaluation the sums are formed as the authors'
    code forms them, with zeros for the weights that are left out and channels really moved: a sum that was rounded
    otherwise could fall on the other side of its threshold. In training those zeros are not multiplied.
    """
    operands = getattr(conv, OPERANDS, None)
    x, weight = (x, conv.weight) if operands is None else operands(conv, x)
    if shuffled:
        x = shuffle_channels(x, parts)
        weight = weight[:, shuffled_order(weight.shape[1], parts, weight.device)]
    if not conv.training:
        chosen = base_weights(weight.shape[0], weight.shape[1], parts, grouped, weight.device)
        return conv._conv_forward(x, weight * chosen, conv.bias)
    if not grouped:
        part = weight.shape[1] // parts
        return conv._conv_forward(x[:, :part], weight[:, :part], conv.bias)
    chunks = weight.unflatten(0, (parts, -1)).unflatten(2, (parts, -1)).diagonal(dim1=0, dim2=2)
    return _in_groups(x, conv, chunks.movedim(-1, 0).flatten(0, 1), parts)


def complete(full: Tensor, base: Tensor, mask: Tensor, group: int = 1) -> Tensor:
    """`full` [N, O, H, W] where the mask [N, ceil(O / group), H, W] is open, `base` where it is closed."""
    return torch.lerp(base, full, expand_channels(mask, full.shape[1], group).to(full.dtype))


def _in_groups(x: Tensor, conv: nn.Conv2d, weight: Tensor, groups: int) -> Tensor:
    """`conv`, with other weights and in groups."""
    if conv.padding_mode == "zeros":
        return F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, groups)
    x = F.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode)
    return F.conv2d(x, weight, conv.bias, conv.stride, 0, conv.dilation, groups)
