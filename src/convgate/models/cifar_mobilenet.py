"""MobileNetV1 for CIFAR: depthwise and pointwise convolutions in turns.

Howard et al.: MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, 2017, table 1. For
32-pixel images the stem keeps the resolution, as is usual; 2x2 positions remain of which the mean is taken.
"""

from typing import Any

import torch
from torch import Tensor, nn

from convgate.models.parts import CIFAR, initialise, require_sizes
from convgate.models.registry import register_model

__all__ = ["CifarMobileNetV1"]

_PAIRS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *((16, 1),) * 5, (32, 2), (32, 1))
"""(outputs in multiples of the width, stride) of each depthwise and pointwise pair."""


@register_model("cifar_mobilenet_v1", input=CIFAR)
class CifarMobileNetV1(nn.Module):
    """MobileNetV1. Images float [N, 3, H, W] (H, W at least 8) -> logits [N, num_classes].

    Args:
        num_classes: number of logits.
        width: channels of the stem: 32 times the paper's width multiplier.

    """

    def __init__(self, num_classes: int = 10, width: int = 32) -> None:
        super().__init__()
        require_sizes(self, num_classes=num_classes, width=width)
        self.options: dict[str, Any] = {"num_classes": num_classes, "width": width}
        self.stem = _unit(3, width, 3)
        pairs = []
        channels = width
        for multiple, stride in _PAIRS:
            outputs = multiple * width
            pairs.append(nn.Sequential(_unit(channels, channels, 3, stride, channels), _unit(channels, outputs, 1)))
            channels = outputs
        self.features = nn.Sequential(*pairs)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.avgpool(self.features(self.stem(x))), 1))


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
