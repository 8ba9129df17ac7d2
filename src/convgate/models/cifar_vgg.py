"""VGG-16 with batch norm for CIFAR: 13 convolutions, a mean over positions, one linear layer.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, configuration D. As
is usual for CIFAR the two large linear layers are left out (a 32-pixel image is one position after five poolings), and
each convolution is followed by a batch norm, which makes its bias superfluous.
"""

from typing import Any

import torch
from torch import Tensor, nn

from convgate.models.parts import CIFAR, initialise, require_sizes
from convgate.models.registry import register_model

__all__ = ["CifarVGG16"]

_STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
"""Channels of each convolution in multiples of the width; a pooling after each stage."""


@register_model("cifar_vgg16", input=CIFAR)
class CifarVGG16(nn.Module):
    """VGG-16 with batch norm. Images float [N, 3, H, W] (H, W at least 32) -> logits [N, num_classes].

    Args:
        num_classes: number of logits.
        width: channels of the first stage.

    """

    def __init__(self, num_classes: int = 10, width: int = 64) -> None:
        super().__init__()
        require_sizes(self, num_classes=num_classes, width=width)
        self.options: dict[str, Any] = {"num_classes": num_classes, "width": width}
        layers: list[nn.Module] = []
        channels = 3
        for stage in _STAGES:
            for multiple in stage:
                conv = nn.Conv2d(channels, multiple * width, 3, padding=1, bias=False)
                channels = multiple * width
                layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.avgpool(self.features(x)), 1))
