"""What several backbones are made of: squeeze-and-excitation, initialisation, checks of options."""

import torch
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.models.registry import ModelInput

__all__ = ["CIFAR", "SqueezeExcite", "initialise", "require_sizes"]

CIFAR = ModelInput((3, 32, 32))
"""CIFAR's images; each data set knows its own mean and standard deviation."""


class SqueezeExcite(nn.Module):
    """Rescales channels by what all positions say: x [N, C, H, W] -> x * sigmoid(up(relu(down(mean of x)))).

    Hu, Shen, Sun: Squeeze-and-Excitation Networks, CVPR 2018, section 3. `down` has max(1, C // reduction) outputs;
    both layers have biases. In a residual unit it stands last before the addition.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(channels, hidden, 1)
        self.relu = nn.ReLU(inplace=True)
        self.up = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(self.relu(self.down(self.pool(x)))))


def initialise(model: nn.Module) -> None:
    """Convolutions as He et al. 2015: normal, with variance 2 / (kernel area * outputs per group); biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def require_sizes(model: nn.Module, **values: int) -> None:
    """Raise `InputError`, naming the option, unless all values are whole numbers of at least 1."""
    if not all(isinstance(value, int) and value >= 1 for value in values.values()):
        given = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise InputError(f"{type(model).__name__}({given}): each is a whole number of at least 1")
