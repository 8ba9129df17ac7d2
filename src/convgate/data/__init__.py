"""Images in: the embedded digits, CIFAR, folders, tar shards, arrays; batch loaders and whole-batch augmentation."""

from convgate.augmentation import Augmentation
from convgate.data.batches import Batches
from convgate.data.cifar import cifar10, cifar100
from convgate.data.digits import digits, scan_splits
from convgate.data.files import ImageFiles
from convgate.data.imagenet import imagenet
from convgate.data.images import ImageSet, Splits, split_off
from convgate.data.normalise import normalise
from convgate.data.photographs import Listing, label, list_images, read_classes
from convgate.data.registry import list_datasets, load, register_dataset
from convgate.data.shards import shards
from convgate.data.vocabulary import outputs_of

__all__ = [
    "Augmentation",
    "Batches",
    "ImageFiles",
    "ImageSet",
    "Listing",
    "Splits",
    "cifar10",
    "cifar100",
    "digits",
    "imagenet",
    "label",
    "list_datasets",
    "list_images",
    "load",
    "normalise",
    "outputs_of",
    "read_classes",
    "register_dataset",
    "scan_splits",
    "shards",
    "split_off",
]
