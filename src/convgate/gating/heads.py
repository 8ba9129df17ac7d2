"""Gate heads: small networks that turn a pooled feature into logits.

How a head starts is its `init`. "whole": its last layer is nearly zero, so that every logit is the bias for any
image, and a network with a bias of a few units computes what it computed before it had gates. "paper": as the sources
start it, with logits that are spread widely by the features, so that a trained network is disturbed at once.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.errors import InputError

__all__ = ["INITS", "ChannelHead", "Init", "LinearHead", "SpatialHead", "Start", "ThresholdHead"]

Init = Literal["whole", "paper"]
INITS = ("whole", "paper")

_NEARLY_ZERO = 1e-3
# Standard deviation of the logits of a head that starts whole, on inputs of root mean square 1. Not 0: ties between
# units could not be told apart by calibration, and the layer before the last would get no gradient in the first step.
_UNKNOWN = 100.0
# Standard deviation that partial sums are taken to have before a norm has seen any.


@dataclass(frozen=True)
class Start:
    """How a head starts, for people who read a plan: its mean `logit`, and whether images are `spread` around it."""

    logit: float
    spread: bool


class SpatialHead(nn.Module):
    """One logit per tile: a convolution over the feature's tile means. [N, C, rows, columns] -> [N, 1, rows, columns].

    Source: DGNet, spatial gating module (kernel 3).
    """

    def __init__(self, channels: int, *, kernel_size: int = 3, bias: float = 5.0, init: Init = "whole") -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, kernel_size, padding=kernel_size // 2)
        _initialise_last(self.conv, bias, init)
        self.start = Start(bias, spread=init != "whole")

    def macs(self, grid: tuple[int, int]) -> int:
        """Multiply-accumulates per sample, for a feature of `grid` tiles."""
        return math.prod(grid) * self.conv.weight.numel()

    def forward(self, pooled: Tensor) -> Tensor:
        return self.conv(pooled)


class ChannelHead(nn.Module):
    """One logit per channel group, from the feature's channel means: linear, batch norm, ReLU, linear.

    [N, C, 1, 1] -> [N, groups, 1, 1]. Source: DGNet, channel gating module (reduction 4). Other methods give the hidden
    layer's size, `hidden`, instead.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        *,
        reduction: int = 4,
        hidden: int | None = None,
        bias: float = 5.0,
        init: Init = "whole",
    ) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1) if hidden is None else hidden
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.expand = nn.Linear(hidden, groups)
        _initialise(self.reduce)
        _initialise_last(self.expand, bias, init)
        self.start = Start(bias, spread=init != "whole")

    def macs(self, grid: tuple[int, int]) -> int:
        """Multiply-accumulates per sample; the feature has one position."""
        return self.reduce.weight.numel() + self.expand.weight.numel()

    def forward(self, pooled: Tensor) -> Tensor:
        if self.training and len(pooled) < 2:
            raise InputError(
                "a gated network in training mode was given one image, and its channel gates normalise over the batch; "
                "give at least 2 images, or call .eval() first"
            )
        hidden = F.relu(self.norm(self.reduce(pooled.flatten(1))))
        return self.expand(hidden)[:, :, None, None]


class LinearHead(nn.Module):
    """One logit per channel group, linear in a trunk's features. [N, F] -> [N, groups, 1, 1].

    The sources start it with PyTorch's initial weights and a bias of 0. Source: GaterNet's code.
    """

    def __init__(self, features: int, groups: int, *, bias: float = 3.0, init: Init = "whole") -> None:
        super().__init__()
        self.linear = nn.Linear(features, groups)
        if init == "whole":
            _initialise_last(self.linear, bias, init)
        else:
            nn.init.constant_(self.linear.bias, bias)
        self.start = Start(bias, spread=init != "whole")

    def macs(self, grid: tuple[int, int]) -> int:
        """Multiply-accumulates per sample; the feature has one position."""
        return self.linear.weight.numel()

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)[:, :, None, None]


class ThresholdHead(nn.Module):
    """How far normalised partial sums exceed a learnable threshold per channel. [N, C, H, W] -> [N, groups, H, W].

    The normalisation is a batch norm without affine parameters; `group` neighbouring channels (the last group may be
    smaller) share the mean of their excesses. Source: CGNet's code, `CGConv2d` (group 1).

    Partial sums of a trained network have any size, and before training the norm knows nothing of it. A head that
    starts whole takes their deviation for so large that none falls below its threshold; with the momentum of 0.1 that
    is forgotten after some hundred batches. In training mode the norm uses the batch's own statistics.
    """

    def __init__(self, channels: int, *, group: int = 1, threshold: float = 0.0, init: Init = "paper") -> None:
        super().__init__()
        self.group = group
        self.norm = nn.BatchNorm2d(channels, affine=False)
        if init == "whole":
            assert self.norm.running_var is not None
            self.norm.running_var.fill_(_UNKNOWN**2)
        self.threshold = nn.Parameter(torch.full((channels,), float(threshold)))
        self.start = Start(-threshold, spread=True)

    def macs(self, grid: tuple[int, int]) -> int:
        """Multiply-accumulates per sample: none, comparing is not counted (nor is normalising, here as elsewhere)."""
        return 0

    def forward(self, partial: Tensor) -> Tensor:
        excess = self.norm(partial) - self.threshold[:, None, None]
        if self.group == 1:
            return excess
        return torch.stack([part.mean(1) for part in excess.split(self.group, 1)], 1)


def _initialise(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _initialise_last(layer: nn.Conv2d | nn.Linear, bias: float, init: Init) -> None:
    if init == "whole":
        nn.init.normal_(layer.weight, std=_NEARLY_ZERO / layer.weight[0].numel() ** 0.5)
    else:
        _initialise(layer)
    nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]  # heads' last layers have one
