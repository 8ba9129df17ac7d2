"""The CIFAR ResNets: three stages of 16, 32 and 64 channels, n basic blocks each, 6n + 2 layers.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2. Two shortcuts where the shape
changes: option A (subsample, pad with zero channels; the paper's choice for CIFAR) and option B (1x1 convolution and
batch norm; DGNet's choice). Layer names are torchvision's.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.errors import InputError

__all__ = ["CifarResNet"]


class CifarResNet(nn.Module):
    """A CIFAR ResNet. Images float [N, 3, H, W] (H, W at least 4; 32 in the paper) -> logits [N, num_classes].

    Args:
        depth: 6n + 2, e.g. 20, 32, 44, 56, 110.
        num_classes: number of logits.
        shortcut: "A" or "B", see above.
        width: channels of the first stage.
        stem_stride: stride of the first convolution; 2 suits images larger than CIFAR's.

    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        shortcut: Literal["A", "B"] = "B",
        width: int = 16,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise InputError(f"CifarResNet(depth={depth}): the depth is 6n + 2, e.g. 20, 32, 44, 56 or 110")
        if shortcut not in ("A", "B"):
            raise InputError(f"CifarResNet(shortcut={shortcut!r}): choose 'A' (zero padding) or 'B' (1x1 convolution)")
        if min(num_classes, width, stem_stride) < 1:
            raise InputError(
                f"CifarResNet(num_classes={num_classes}, width={width}, stem_stride={stem_stride}): each is at least 1"
            )
        self.options: dict[str, Any] = {
            "depth": depth,
            "num_classes": num_classes,
            "shortcut": shortcut,
            "width": width,
            "stem_stride": stem_stride,
        }
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, width, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = (
                _PaddedSubsample(outputs - inputs, stride)
                if shortcut == "A"
                else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class _PaddedSubsample(nn.Module):
    """Option A: every stride-th position, and zero channels, half of them before and half after."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        before = self.channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.channels - before))

    def extra_repr(self) -> str:
        return f"channels={self.channels}, stride={self.stride}"


def _stage(inputs: int, outputs: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    first = _BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(_BasicBlock(outputs, outputs, 1, shortcut) for _ in range(blocks - 1)))
