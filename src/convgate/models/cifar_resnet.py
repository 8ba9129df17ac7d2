"""The CIFAR ResNets: stages of n basic blocks each, every stage twice as wide as the one before.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2: three stages of 16, 32 and 64
channels, 6n + 2 layers. Two shortcuts where the shape changes: option A (subsample, pad with zero channels; the paper's
choice for CIFAR) and option B (1x1 convolution and batch norm; DGNet's and GaterNet's choice). Layer names are
torchvision's.

With four stages of 64 to 512 channels, 8n + 2 layers, it is the ImageNet ResNet-18 behind a 3x3 stem without pooling,
which is what papers mean by a "ResNet-18" for CIFAR.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.models.parts import CIFAR, SqueezeExcite, initialise, require_sizes
from convgate.models.registry import register_model

__all__ = ["CifarResNet"]


@register_model("cifar_resnet18", input=CIFAR, depth=18, stages=4)
@register_model("cifar_resnet110", input=CIFAR, depth=110, stages=3)
@register_model("cifar_resnet56", input=CIFAR, depth=56, stages=3)
@register_model("cifar_resnet44", input=CIFAR, depth=44, stages=3)
@register_model("cifar_resnet32", input=CIFAR, depth=32, stages=3)
@register_model("cifar_resnet20", input=CIFAR, depth=20, stages=3)
@register_model("cifar_resnet14", input=CIFAR, depth=14, stages=3)
@register_model("cifar_resnet8", input=CIFAR, depth=8, stages=3)
class CifarResNet(nn.Module):
    """A CIFAR ResNet. Images float [N, 3, H, W] (H, W at least 4; 32 in the paper) -> logits [N, num_classes].

    Args:
        depth: 2n * stages + 2: with 3 stages 20, 32, 44, 56, 110, ..; with 4 stages 18, ..
        num_classes: number of logits.
        shortcut: "A" or "B", see above.
        width: channels of the first stage; None for 16 with three stages, 64 with four.
        stem_stride: stride of the first convolution; 2 suits images larger than CIFAR's.
        stages: 3 or 4.
        squeeze: squeeze-and-excitation in every block, with this reduction; None for none.
        activation: where a block's second ReLU is: "after_sum" (He et al.), or "before_sum", behind the second
            convolution's norm, with none after the sum (the post-activation blocks of CGNet's code).
        widths: channels of each stage, if they are not to double from stage to stage.

    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        shortcut: Literal["A", "B"] = "B",
        width: int | None = None,
        stem_stride: int = 1,
        stages: int = 3,
        squeeze: int | None = None,
        activation: Literal["after_sum", "before_sum"] = "after_sum",
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if stages not in (3, 4):
            raise InputError(f"CifarResNet(stages={stages!r}): a CIFAR ResNet has 3 stages, or 4 as ResNet-18")
        if depth < 2 * stages + 2 or (depth - 2) % (2 * stages):
            examples = "20, 32, 44, 56 or 110" if stages == 3 else "10, 18 or 26"
            raise InputError(f"CifarResNet(depth={depth}): the depth is {2 * stages}n + 2, e.g. {examples}")
        if shortcut not in ("A", "B"):
            raise InputError(f"CifarResNet(shortcut={shortcut!r}): choose 'A' (zero padding) or 'B' (1x1 convolution)")
        if activation not in ("after_sum", "before_sum"):
            raise InputError(f"CifarResNet(activation={activation!r}): choose 'after_sum' or 'before_sum'")
        if widths is not None and (width is not None or len(widths) != stages):
            raise InputError(
                f"CifarResNet(widths={list(widths)}, width={width!r}): give {stages} widths, one for each stage, and "
                "no width beside them"
            )
        width = (16 if stages == 3 else 64) if width is None else width
        chosen = [width * 2**stage for stage in range(stages)] if widths is None else [*widths]
        sizes = {f"widths[{stage}]": size for stage, size in enumerate(chosen)} if widths is not None else {}
        require_sizes(self, num_classes=num_classes, width=width, stem_stride=stem_stride, **sizes)
        if squeeze is not None:
            require_sizes(self, squeeze=squeeze)
        self.options: dict[str, Any] = {
            "depth": depth,
            "num_classes": num_classes,
            "shortcut": shortcut,
            "width": None if widths is not None else width,
            "stem_stride": stem_stride,
            "stages": stages,
            "squeeze": squeeze,
        }
        if activation != "after_sum":
            self.options["activation"] = activation
        if widths is not None:
            self.options["widths"] = chosen
        blocks = (depth - 2) // (2 * stages)
        block = partial(_BasicBlock, shortcut=shortcut, squeeze=squeeze, activation=activation)
        self.conv1 = nn.Conv2d(3, chosen[0], 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(chosen[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(block, chosen[0], chosen[0], blocks, 1)
        self.layer2 = _stage(block, chosen[0], chosen[1], blocks, 2)
        self.layer3 = _stage(block, chosen[1], chosen[2], blocks, 2)
        self.layer4 = _stage(block, chosen[2], chosen[3], blocks, 2) if stages == 4 else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(chosen[-1], num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.layer4 is not None:
            x = self.layer4(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


class _BasicBlock(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, stride: int, *, shortcut: str, squeeze: int | None, activation: str
    ) -> None:
        super().__init__()
        self.activated = activation == "before_sum"
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.se = None if squeeze is None else SqueezeExcite(outputs, squeeze)
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
        if self.se is not None:
            y = self.se(y)
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y) + shortcut if self.activated else self.relu(y + shortcut)


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


def _stage(block: Callable[..., _BasicBlock], inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(block(inputs, outputs, stride), *(block(outputs, outputs, 1) for _ in range(blocks - 1)))
