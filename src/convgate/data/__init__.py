"""Images in: the embedded digits, CIFAR, arrays; batch loaders and whole-batch augmentation."""

from convgate.data.augment import Augmentation, normalise
from convgate.data.batches import Batches
from convgate.data.cifar import cifar10, cifar100
from convgate.data.digits import digits, scan_splits
from convgate.data.images import ImageSet, Splits, split_off
from convgate.data.registry import load

__all__ = [
    "Augmentation",
    "Batches",
    "ImageSet",
    "Splits",
    "cifar10",
    "cifar100",
    "digits",
    "load",
    "normalise",
    "scan_splits",
    "split_off",
]
