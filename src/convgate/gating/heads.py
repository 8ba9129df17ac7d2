"""Gate heads: small networks that turn a feature map into logits."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from convgate.gating.pooling import global_mean

__all__ = ["ChannelHead", "SpatialHead"]


class SpatialHead(nn.Module):
    """One logit per tile: average-pool to the grid of tiles, then a convolution. [N, C, H, W] -> [N, 1, *grid].

    Source: DGNet, spatial gating module (kernel 3).
    """

    def __init__(self, channels: int, grid: tuple[int, int], *, kernel_size: int = 3, bias: float = 2.0) -> None:
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv2d(channels, 1, kernel_size, padding=kernel_size // 2)
        _initialise(self.conv, bias)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        return math.prod(self.grid) * self.conv.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        pooled = x if tuple(x.shape[2:]) == self.grid else F.adaptive_avg_pool2d(x, self.grid)
        return self.conv(pooled.to(self.conv.weight.dtype))


class ChannelHead(nn.Module):
    """One logit per channel group: global average pooling, 1x1 conv, batch norm, ReLU, 1x1 conv.

    [N, C, H, W] -> [N, groups, 1, 1]. Source: DGNet, channel gating module (reduction 4).
    """

    def __init__(self, channels: int, groups: int, *, reduction: int = 4, bias: float = 2.0) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.expand = nn.Conv2d(hidden, groups, 1)
        _initialise(self.reduce, 0.0)
        _initialise(self.expand, bias)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        return self.reduce.weight.numel() + self.expand.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        pooled = global_mean(x, self.reduce.weight.dtype)
        return self.expand(F.relu(self.norm(self.reduce(pooled))))


def _initialise(conv: nn.Conv2d, bias: float) -> None:
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.constant_(conv.bias, bias)
