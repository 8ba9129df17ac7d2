"""Images in: the embedded digits, CIFAR, folders, tar shards, arrays, scenes with masks or boxes; batch loaders and
whole-batch augmentation.
"""

from convgate.augmentation import Augmentation
from convgate.data.batches import Batches
from convgate.data.cifar import cifar10, cifar100
from convgate.data.coco import coco
from convgate.data.digit_scenes import digit_scenes
from convgate.data.digits import digits, scan_splits
from convgate.data.files import ImageFiles
from convgate.data.holding_out import split_off
from convgate.data.imagenet import imagenet
from convgate.data.images import ImageSet, Splits
from convgate.data.normalise import normalise
from convgate.data.pairs import camvid, cityscapes, pairs, voc_segmentation
from convgate.data.photographs import Listing, label, list_images, read_classes
from convgate.data.registry import list_datasets, load, register_dataset
from convgate.data.scenes import IGNORED, BoxSet, MaskSet, Scenes, box_target
from convgate.data.shards import shards
from convgate.data.vocabulary import outputs_of
from convgate.data.yolo import yolo

__all__ = [
    "IGNORED",
    "Augmentation",
    "Batches",
    "BoxSet",
    "ImageFiles",
    "ImageSet",
    "Listing",
    "MaskSet",
    "Scenes",
    "Splits",
    "box_target",
    "camvid",
    "cifar10",
    "cifar100",
    "cityscapes",
    "coco",
    "digit_scenes",
    "digits",
    "imagenet",
    "label",
    "list_datasets",
    "list_images",
    "load",
    "normalise",
    "outputs_of",
    "pairs",
    "read_classes",
    "register_dataset",
    "scan_splits",
    "shards",
    "split_off",
    "voc_segmentation",
    "yolo",
]
