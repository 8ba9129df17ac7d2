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
    (height, width), (rows, columns) = x.shape[2:], mask.shape[2:]
    if height % rows or width % columns:
        return x * expand_tiles(mask, (height, width)).to(x.dtype)
    # Even tiles: views of x by tile, so that neither the spread mask nor its gradient is ever stored.
    tiled = x.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
    masked = tiled * mask.to(x.dtype).view(-1, 1, rows, 1, columns, 1)
    return masked.flatten(4, 5).flatten(2, 3)


def mask_channels(x: Tensor, mask: Tensor, group: int = 1) -> Tensor:
    """Zero the channels of `x` [N, C, H, W] whose group is closed in `mask` [N, ceil(C / group), 1, 1]."""
    return x * expand_channels(mask, x.shape[1], group).to(x.dtype)
