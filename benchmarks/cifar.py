"""Checkpoints of CIFAR-10 networks: what they are called, and images as they were trained to see them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from convgate.data import normalise
from convgate.data.cifar import MEAN, STD

__all__ = ["name_of", "normalised", "statistics"]


def name_of(path: Path) -> str:
    """The run's name, of what a run's folder holds; else the file's."""
    return path.parent.name if path.stem == "network" else path.stem


def statistics(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel: what a checkpoint says of its network, or else those of CIFAR-10."""
    preparation = getattr(network, "preparation", None)
    return (MEAN, STD) if preparation is None else (preparation.mean, preparation.std)


def normalised(stored: np.ndarray, network: nn.Module) -> Tensor:
    """Stored images, uint8 [N, 32, 32, 3], as float32 [N, 3, 32, 32] for the network."""
    return normalise(torch.from_numpy(stored).permute(0, 3, 1, 2), *statistics(network))
