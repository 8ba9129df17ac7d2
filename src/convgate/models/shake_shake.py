"""Shake-Shake ResNets for CIFAR: two residual branches per block, mixed at random in training.

Gastaldi: Shake-Shake regularization, ICLR workshop 2017, and its code. A block computes
x + alpha * branch1(x) + (1 - alpha) * branch2(x). In training alpha is uniform in [0, 1), one number per image and
block, and the backward pass uses another number in its place, drawn the same way ("Shake-Shake-Image"); in evaluation,
alpha is 1/2. A branch is relu, 3x3 convolution, norm, relu, 3x3 convolution, norm. Where the shape changes the shortcut
is relu, two flows of 1x1 convolutions with half of the channels each, norm; the second flow sees other positions than
the first.

Differences from the code:

- The second flow reads the positions 1, 3, 5, ..; the code's reads -1, 1, 3, .., that is zeros first.
- The stem has as many channels as the first stage. The code has 16, and `stem=16` gives it; but only with a wide stem
  do the models have the parameters of GaterNet's table (11.71M and 26.33M; with 16 channels they are 11.65M and
  26.19M).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.models.parts import CIFAR, initialise, require_sizes
from convgate.models.registry import register_model

__all__ = ["Shake", "ShakeShake"]


@register_model("cifar_shake_shake26_2x96d", input=CIFAR, depth=26, width=96)
@register_model("cifar_shake_shake26_2x64d", input=CIFAR, depth=26, width=64)
@register_model("cifar_shake_shake26_2x32d", input=CIFAR, depth=26, width=32)
class ShakeShake(nn.Module):
    """A Shake-Shake ResNet. Images float [N, 3, H, W], H and W multiples of 4 -> logits [N, num_classes].

    Args:
        depth: 6n + 2, e.g. 26.
        width: channels of the first stage; 64 for "2x64d". An even number.
        num_classes: number of logits.
        stem: channels of the stem; None for `width`.

    """

    def __init__(self, depth: int = 26, width: int = 64, num_classes: int = 10, stem: int | None = None) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise InputError(f"ShakeShake(depth={depth}): the depth is 6n + 2, e.g. 26")
        stem = width if stem is None else stem
        require_sizes(self, width=width, num_classes=num_classes, stem=stem)
        if width % 2:
            raise InputError(f"ShakeShake(width={width}): the width is even, each flow of a shortcut has half of it")
        self.options: dict[str, Any] = {"depth": depth, "width": width, "num_classes": num_classes, "stem": stem}
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, width, blocks, 1)
        self.layer2 = _stage(width, 2 * width, blocks, 2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(F.relu(x)), 1))


class Shake(nn.Module):
    """Mixes a and b [N, C, H, W]: their mean in evaluation; in training as above."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if not self.training:
            return a * 0.5 + b * 0.5
        alpha, beta = (torch.rand(a.shape[0], 1, 1, 1, device=a.device, dtype=a.dtype) for _ in range(2))
        mixed: Tensor = _Mix.apply(a, b, alpha, beta)
        return mixed


class _Mix(torch.autograd.Function):
    """alpha * a + (1 - alpha) * b, with the gradient of beta * a + (1 - beta) * b."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        ctx.save_for_backward(beta)
        return alpha * a + (1 - alpha) * b

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (beta,), (gradient,) = ctx.saved_tensors, gradients
        return beta * gradient, (1 - beta) * gradient, None, None


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.branch1 = _branch(inputs, outputs, stride)
        self.branch2 = _branch(inputs, outputs, stride)
        self.shake = Shake()
        self.downsample = _TwoFlows(inputs, outputs, stride) if stride != 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(x)
        shortcut = x if self.downsample is None else self.downsample(y)
        return shortcut + self.shake(self.branch1(y), self.branch2(y))


class _TwoFlows(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.conv2 = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        # With a stride of 1 both flows see every position.
        first = self.stride - 1
        here = x[:, :, :: self.stride, :: self.stride]
        there = x[:, :, first :: self.stride, first :: self.stride]
        return self.bn(torch.cat([self.conv1(here), self.conv2(there)], 1))


def _branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Block(inputs, outputs, stride)
    return nn.Sequential(first, *(_Block(outputs, outputs, 1) for _ in range(blocks - 1)))
