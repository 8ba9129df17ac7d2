"""DenseNet-BC for CIFAR: every layer reads the features of all layers before it in its block.

Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks, CVPR 2017. Three dense blocks of
(depth - 4) / 6 layers each, a layer being norm, activation, 1x1 convolution to 4k channels (B) and norm, activation,
3x3 convolution to k; between blocks a 1x1 convolution halves the channels (C) and a 2x2 mean the resolution. The stem
has 2k channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.models.parts import CIFAR, initialise, require_sizes
from convgate.models.registry import register_model

__all__ = ["DenseNetBC"]


@register_model("cifar_densenet_bc190_40", input=CIFAR, depth=190, growth=40)
@register_model("cifar_densenet_bc250_24", input=CIFAR, depth=250, growth=24)
@register_model("cifar_densenet_bc100_12", input=CIFAR, depth=100, growth=12)
class DenseNetBC(nn.Module):
    """A DenseNet-BC. Images float [N, 3, H, W] (H, W at least 4) -> logits [N, num_classes].

    Args:
        depth: 6n + 4, e.g. 100, 190, 250.
        growth: k, the channels that each layer adds.
        num_classes: number of logits.

    """

    def __init__(self, depth: int = 100, growth: int = 12, num_classes: int = 10) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise InputError(f"DenseNetBC(depth={depth}): the depth is 6n + 4, e.g. 100, 190 or 250")
        require_sizes(self, growth=growth, num_classes=num_classes)
        self.options: dict[str, Any] = {"depth": depth, "growth": growth, "num_classes": num_classes}
        layers = (depth - 4) // 6
        channels = 2 * growth
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.block1 = _block(channels, growth, layers)
        channels += layers * growth
        self.transition1 = _Transition(channels)
        channels //= 2
        self.block2 = _block(channels, growth, layers)
        channels += layers * growth
        self.transition2 = _Transition(channels)
        channels //= 2
        self.block3 = _block(channels, growth, layers)
        channels += layers * growth
        self.bn = nn.BatchNorm2d(channels)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transition1(self.block1(self.conv1(x)))
        x = self.block3(self.transition2(self.block2(x)))
        return self.fc(torch.flatten(self.avgpool(F.relu(self.bn(x))), 1))


class _Layer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.bn1(x)))
        y = self.conv2(F.relu(self.bn2(y)))
        return torch.cat([x, y], 1)


class _Transition(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(F.relu(self.bn(x))))


def _block(channels: int, growth: int, layers: int) -> nn.Sequential:
    return nn.Sequential(*(_Layer(channels + i * growth, growth) for i in range(layers)))
