"""Average pooling to a grid of tiles, with a gradient that is written once and in the feature's own memory layout.

PyTorch's own does the same sums. Its gradients are what costs: in the training of a gated ResNet-20 in bfloat16,
broadcasting the mean's gradient and adding it to the others took more time than the gates' own layers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convgate.gating.masks import is_recorded, map_size

__all__ = ["average_pool", "spread"]


def average_pool(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean over tiles: [N, C, H, W] -> [N, C, *grid]; where tiles are uneven, as `adaptive_avg_pool2d`."""
    height, width = map_size(x)
    if (height, width) == grid:
        # A copy: the model may overwrite its feature in place, and the head's gradient needs what it read.
        return x.clone()
    if height % grid[0] or width % grid[1]:
        return F.adaptive_avg_pool2d(x, grid)
    if is_recorded():
        return F.avg_pool2d(x, (height // grid[0], width // grid[1]))
    return _TilePool.apply(x, (height // grid[0], width // grid[1]))


def spread(x: Tensor, tile: tuple[int, int], memory_format: torch.memory_format) -> Tensor:
    """Each entry repeated over a tile: [N, C, R, S] -> [N, C, R * tile[0], S * tile[1]]."""
    n, c, rows, columns = x.shape
    size = rows * tile[0], columns * tile[1]
    if memory_format != torch.channels_last:
        return x[:, :, :, None, :, None].expand(-1, -1, -1, tile[0], -1, tile[1]).reshape(n, c, *size)
    # Repeat along a row of NHWC memory, then rows: runs long enough to copy fast however few the channels are.
    row = torch.stack([x.permute(0, 2, 3, 1)] * tile[1], dim=3).view(n, rows, 1, size[1] * c)
    return row.expand(-1, -1, tile[0], -1).reshape(n, *size, c).permute(0, 3, 1, 2)


class _TilePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, tile: tuple[int, int]) -> Tensor:
        ctx.tile = tile
        nhwc = x.is_contiguous(memory_format=torch.channels_last)
        ctx.memory_format = torch.channels_last if nhwc else torch.contiguous_format
        return F.avg_pool2d(x, tile)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return spread(gradient / (ctx.tile[0] * ctx.tile[1]), ctx.tile, ctx.memory_format), None
