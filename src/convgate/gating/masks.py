"""From decisions to feature maps: masks spread over tiles and channel groups, and multiplied in."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["expand_channels", "expand_tiles", "mask_channels", "mask_positions"]


def expand_tiles(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Spread a tile mask [N, 1, rows, columns] over positions [N, 1, *size], nearest neighbour."""
    return mask if tuple(mask.shape[2:]) == tuple(size) else F.interpolate(mask, size=size, mode="nearest")


def expand_channels(mask: Tensor, channels: int, group: int) -> Tensor:
    """Spread a mask over channel groups [N, groups, 1, 1] to single channels [N, channels, 1, 1].

    Group i holds the channels from i * group on; the last may be smaller.
    """
    return mask if group == 1 else mask.repeat_interleave(group, dim=1)[:, :channels]


def mask_positions(x: Tensor, mask: Tensor) -> Tensor:
    """Zero the positions of `x` [N, C, H, W] whose tile is closed in `mask` [N, 1, rows, columns]."""
    return x * expand_tiles(mask, (x.shape[2], x.shape[3])).to(x.dtype)


def mask_channels(x: Tensor, mask: Tensor, group: int = 1) -> Tensor:
    """Zero the channels of `x` [N, C, H, W] whose group is closed in `mask` [N, ceil(C / group), 1, 1]."""
    return x * expand_channels(mask, x.shape[1], group).to(x.dtype)
