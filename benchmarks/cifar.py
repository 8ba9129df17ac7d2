"""CIFAR-10's images as a network was trained to see them."""

import numpy as np
import torch
from torch import Tensor, nn

from convgate.data import normalise
from convgate.data.cifar import MEAN, STD

__all__ = ["normalised", "statistics"]


def statistics(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel: what a checkpoint says of its network, or else those of CIFAR-10."""
    preparation = getattr(network, "preparation", None)
    return (MEAN, STD) if preparation is None else (preparation.mean, preparation.std)


def normalised(stored: np.ndarray, network: nn.Module) -> Tensor:
    """Stored images, uint8 [N, 32, 32, 3], as float32 [N, 3, 32, 32] for the network."""
    return normalise(torch.from_numpy(stored).permute(0, 3, 1, 2), *statistics(network))
