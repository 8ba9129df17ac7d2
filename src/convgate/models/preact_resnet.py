"""Pre-activation ResNets of bottleneck blocks for CIFAR: ResNet-164 and its kin, 9n + 2 layers.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks, ECCV 2016: in each block norm and activation come
before the convolution, and nothing after the addition; where the shape changes, the first norm and activation are
shared with the shortcut, a 1x1 convolution.

Chen, Li, Bengio, Si: GaterNet, CVPR 2019, narrow the first group of blocks to 16, 4 and 16 channels (footnote 2), where
He et al. have 64, 16 and 64; `narrow` chooses. The other two groups have 128, 32, 128 and 256, 64, 256.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.models.parts import CIFAR, SqueezeExcite, initialise, require_sizes
from convgate.models.registry import register_model

__all__ = ["PreActResNet"]

_EXPANSION = 4


@register_model("cifar_preact_resnet164", input=CIFAR, depth=164)
@register_model("cifar_preact_resnet110", input=CIFAR, depth=110)
@register_model("cifar_preact_resnet11", input=CIFAR, depth=11)
class PreActResNet(nn.Module):
    """A pre-activation ResNet. Images float [N, 3, H, W] (H, W at least 4) -> logits [N, num_classes].

    Args:
        depth: 9n + 2, e.g. 164.
        num_classes: number of logits.
        width: channels of the stem; the 3x3 convolutions of the last group are 4 times as wide.
        narrow: the first group is GaterNet's (a quarter as wide) rather than He et al.'s.
        squeeze: squeeze-and-excitation in every block, with this reduction; None for none.

    """

    def __init__(
        self,
        depth: int = 164,
        num_classes: int = 10,
        width: int = 16,
        narrow: bool = True,
        squeeze: int | None = None,
    ) -> None:
        super().__init__()
        if depth < 11 or (depth - 2) % 9:
            raise InputError(f"PreActResNet(depth={depth}): the depth is 9n + 2, e.g. 29, 110 or 164")
        require_sizes(self, num_classes=num_classes, width=width)
        if narrow and width < 4:
            raise InputError(f"PreActResNet(width={width}): at least 4, of which a narrow first group has a quarter")
        if squeeze is not None:
            require_sizes(self, squeeze=squeeze)
        self.options: dict[str, Any] = {
            "depth": depth,
            "num_classes": num_classes,
            "width": width,
            "narrow": narrow,
            "squeeze": squeeze,
        }
        blocks = (depth - 2) // 9
        first, second, third = width // 4 if narrow else width, 2 * width, 4 * width
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.layer1 = _group(width, first, blocks, 1, squeeze)
        self.layer2 = _group(_EXPANSION * first, second, blocks, 2, squeeze)
        self.layer3 = _group(_EXPANSION * second, third, blocks, 2, squeeze)
        self.bn = nn.BatchNorm2d(_EXPANSION * third)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(_EXPANSION * third, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(F.relu(self.bn(x))), 1))


class _Block(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int, squeeze: int | None) -> None:
        super().__init__()
        outputs = _EXPANSION * planes
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.se = None if squeeze is None else SqueezeExcite(outputs, squeeze)
        changes = stride != 1 or inputs != outputs
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(y)
        y = self.conv2(F.relu(self.bn2(self.conv1(y))))
        y = self.conv3(F.relu(self.bn3(y)))
        if self.se is not None:
            y = self.se(y)
        return y + shortcut


def _group(inputs: int, planes: int, blocks: int, stride: int, squeeze: int | None) -> nn.Sequential:
    first = _Block(inputs, planes, stride, squeeze)
    return nn.Sequential(first, *(_Block(_EXPANSION * planes, planes, 1, squeeze) for _ in range(blocks - 1)))
