"""From decisions to feature maps: masks spread over tiles and channel groups, and multiplied in."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "NO_REACH",
    "Reach",
    "dilate",
    "expand_channels",
    "expand_tiles",
    "is_recorded",
    "map_size",
    "mask_channels",
    "mask_positions",
]

Reach = tuple[int, int]
"""By how many rows and columns of positions a mask is dilated."""

NO_REACH: Reach = (0, 0)


def is_recorded() -> bool:
    """Whether operations are recorded (torch.compile, torch.export, torch.jit.trace) or transformed (torch.func).

    Then plain operations are better than an autograd function: compilers fuse them, and not every
    recorder knows such functions.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active()


def map_size(x: Tensor) -> tuple[int, int]:
    """Height and width of a map [N, C, H, W] as numbers, also while torch.jit.trace records what is done with them."""
    if not torch.jit.is_tracing():
        return x.shape[2], x.shape[3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return int(x.shape[2]), int(x.shape[3])


def expand_tiles(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Spread a tile mask [N, 1, rows, columns] over positions [N, 1, *size], nearest neighbour."""
    for dim, extent in ((2, size[0]), (3, size[1])):
        rows, columns = map_size(mask)
        tiles = rows if dim == 2 else columns
        if extent % tiles:
            stretched = (extent, columns) if dim == 2 else (rows, extent)
            mask = F.interpolate(mask, size=stretched, mode="nearest")
        elif extent != tiles:
            # Interpolating even tiles is off by a position for some sizes (82 by 2 is one): its factor is rounded.
            mask = mask.repeat_interleave(extent // tiles, dim)
    return mask


def expand_channels(mask: Tensor, channels: int, group: int) -> Tensor:
    """Spread a mask over channel groups [N, groups, 1, 1] to single channels [N, channels, 1, 1].

    Group i holds the channels from i * group on; the last may be smaller.
    """
    return mask if group == 1 else mask.repeat_interleave(group, dim=1)[:, :channels]


def dilate(mask: Tensor, reach: Reach) -> Tensor:
    """Open what is at most `reach` rows and columns away from an open position: float [N, 1, H, W] to the same shape.

    Differentiable: a position that was opened so passes its gradient to one of the open positions that opened it.

    >>> dilate(torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]]), (0, 1))
    tensor([[[[0., 0., 1., 1.]]]])
    """
    if reach == NO_REACH:
        return mask
    rows, columns = reach
    return F.max_pool2d(mask, (2 * rows + 1, 2 * columns + 1), stride=1, padding=(rows, columns))


def mask_positions(x: Tensor, mask: Tensor, reach: Reach = NO_REACH) -> Tensor:
    """Zero the positions of `x` [N, C, H, W] whose tile is closed in `mask` [N, 1, rows, columns].

    Those stay that are at most `reach` rows and columns away from an open tile.
    """
    (height, width), (rows, columns) = map_size(x), map_size(mask)
    if height % rows or width % columns or reach != NO_REACH or is_recorded():
        return x * dilate(expand_tiles(mask, (height, width)), reach).to(x.dtype)
    return _MaskTiles.apply(x, mask)


def mask_channels(x: Tensor, mask: Tensor, group: int = 1) -> Tensor:
    """Zero the channels of `x` [N, C, H, W] whose group is closed in `mask` [N, ceil(C / group), 1, 1]."""
    return x * expand_channels(mask, x.shape[1], group).to(x.dtype)


class _MaskTiles(torch.autograd.Function):
    """x times a mask of even tiles, through views by tile: the spread mask is never stored.

    The mask's gradient is the sum of gradient * x over a tile's positions and all channels: channels first, by a matrix
    product, which is fast for few channels, too.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(x, mask)
        return _times(x, mask)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, mask = ctx.saved_tensors
        to_x = _times(gradient, mask) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_x, None
        products = (gradient * x).permute(0, 2, 3, 1)
        over_channels = torch.matmul(products, products.new_ones(x.shape[1], 1)).permute(0, 3, 1, 2)
        tile = x.shape[2] // mask.shape[2], x.shape[3] // mask.shape[3]
        return to_x, F.avg_pool2d(over_channels.to(mask.dtype), tile) * (tile[0] * tile[1])


def _times(x: Tensor, mask: Tensor) -> Tensor:
    rows, columns = mask.shape[2:]
    # Into a new tensor: a view could not be changed in place, as models do with what they add.
    masked = torch.empty_like(x)
    tiled, result = (t.unflatten(3, (columns, -1)).unflatten(2, (rows, -1)) for t in (x, masked))
    torch.mul(tiled, mask.to(x.dtype).view(-1, 1, rows, 1, columns, 1), out=result)
    return masked
