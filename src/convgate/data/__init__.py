"""Images in: the embedded digits, CIFAR, folders, tar shards, arrays; batch loaders and whole-batch augmentation."""

from convgate.data.augment import Augmentation, normalise
from convgate.data.batches import Batches
from convgate.data.cifar import cifar10, cifar100
from convgate.data.digits import digits, scan_splits
from convgate.data.files import ImageFiles
from convgate.data.imagenet import imagenet
from convgate.data.images import ImageSet, Splits, split_off
from convgate.data.registry import list_datasets, load, register_dataset
from convgate.data.shards import shards

__all__ = [
    "Augmentation",
    "Batches",
    "ImageFiles",
    "ImageSet",
    "Splits",
    "cifar10",
    "cifar100",
    "digits",
    "imagenet",
    "list_datasets",
    "load",
    "normalise",
    "register_dataset",
    "scan_splits",
    "shards",
    "split_off",
]
