"""CIFAR-10 and CIFAR-100 from any of the forms in which people keep them."""

import zipfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convgate.data.holding_out import hold_out
from convgate.data.images import ImageSet, Splits
from convgate.errors import DataError

__all__ = ["MEAN", "STD", "cifar10", "cifar100"]

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of each channel of CIFAR-10's training images, of values in [0, 1]."""

ARRAYS = ("train_x", "train_y", "test_x", "test_y", "classes")
SIDE = 32
Part = tuple[np.ndarray, np.ndarray]


def cifar10(
    root: str | PathLike[str],
    validation: int | None = None,
    seed: int = 0,
    download: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Splits:
    """CIFAR-10, all of it in memory.

    Args:
        root: one of
            an `.npz` file of uint8 images `train_x`, `test_x` [N, 32, 32, 3], integer `train_y`, `test_y` [N], and
            the class names `classes`;
            a folder with `train/<class>/*.png` and `test/<class>/*.png`;
            a folder in which torchvision's CIFAR10 finds, or with `download` puts, its files.
        validation: how many training images are held out, at random; 0 for none; None for a tenth, 5000 at
            most.
        seed: of that choice.
        download: fetch the files into `root` if they are not there.
        mean: mean of each channel, of pixel values scaled to [0, 1], to normalise with: what given weights were trained
            with; None for that of the data set.
        std: standard deviation of each channel, in the same way.

    Raises:
        DataError: nothing usable at `root`, or not 32x32 images of 10 classes; a mean or std of another length.
        InputError: `validation` out of range.

    """
    statistics = tuple(mean or MEAN), tuple(std or STD)
    return _load("CIFAR10", 10, *statistics, root, validation, seed, download)


def cifar100(
    root: str | PathLike[str],
    validation: int | None = None,
    seed: int = 0,
    download: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Splits:
    """CIFAR-100 with its 100 fine classes; the arguments and errors are those of `cifar10`."""
    statistics = tuple(mean or (0.5071, 0.4865, 0.4409)), tuple(std or (0.2673, 0.2564, 0.2762))
    return _load("CIFAR100", 100, *statistics, root, validation, seed, download)


def _load(
    kind: str,
    n_classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    root: str | PathLike[str],
    validation: int | None,
    seed: int,
    download: bool,
) -> Splits:
    path = Path(root).expanduser()
    if path.suffix == ".npz" and path.is_file():
        train, test, classes = _from_npz(path)
    elif (path / "train").is_dir() and (path / "test").is_dir():
        train, test, classes = _from_folders(path)
    elif download or path.is_dir():
        train, test, classes = _from_torchvision(kind, path, download)
    else:
        raise DataError(f"{path} is not there. {_forms(kind)}")
    if len(classes) != n_classes:
        raise DataError(f"{path} has {len(classes)} classes, {kind} has {n_classes}: is it another data set?")

    def whole(part: str, images: np.ndarray, labels: np.ndarray) -> ImageSet:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (SIDE, SIDE, 3):
            raise DataError(
                f"{path}: the {part} images are {images.dtype} {images.shape}, they must be uint8 "
                f"[N, {SIDE}, {SIDE}, 3]."
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"{path}: the {part} labels are {labels.dtype}, they must be integers.")
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return ImageSet(pixels, torch.from_numpy(labels.reshape(-1).astype(np.int64)), classes, mean, std)

    rest, held_out = hold_out(whole("train", *train), validation, seed, most=5000)
    return Splits(kind.lower(), rest, held_out, whole("test", *test))


def _from_npz(path: Path) -> tuple[Part, Part, tuple[str, ...]]:
    try:
        # Opened here, for np.load leaves a damaged file open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if missing := [name for name in ARRAYS if name not in file]:
                raise DataError(f"{path} lacks {', '.join(missing)}: it must hold the arrays {', '.join(ARRAYS)}.")
            train_x, train_y, test_x, test_y, classes = (file[name] for name in ARRAYS)
    # np.load of a damaged file raises any of these; pickled arrays are a ValueError.
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path} cannot be read as an .npz file of plain arrays: {error}. Write it again.") from error
    return (train_x, train_y), (test_x, test_y), tuple(map(str, classes.reshape(-1)))


def _from_folders(path: Path) -> tuple[Part, Part, tuple[str, ...]]:
    from PIL import UnidentifiedImageError
    from torchvision.datasets import ImageFolder

    try:
        train, test = ImageFolder(path / "train"), ImageFolder(path / "test")
        if train.classes != test.classes:
            odd = sorted(set(train.classes) ^ set(test.classes))
            raise DataError(f"{path}: only one of train and test has the class folders {', '.join(odd)}.")
        return _stacked(train), _stacked(test), tuple(train.classes)
    # ImageFolder raises FileNotFoundError for a folder without images; a truncated image is an OSError.
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise DataError(f"{path} cannot be read as folders of {SIDE}x{SIDE} images: {error}") from error


def _stacked(folder: Any) -> Part:
    return np.stack([np.asarray(image) for image, _ in folder]), np.asarray(folder.targets)


def _from_torchvision(kind: str, path: Path, download: bool) -> tuple[Part, Part, tuple[str, ...]]:
    from torchvision import datasets

    try:
        train, test = (getattr(datasets, kind)(path, train=part, download=download) for part in (True, False))
    # RuntimeError: torchvision found nothing, or a wrong checksum; OSError: the download failed.
    except (RuntimeError, OSError) as error:
        raise DataError(f"{path} does not hold {kind}: {error} {_forms(kind)}") from error
    return (train.data, np.asarray(train.targets)), (test.data, np.asarray(test.targets)), tuple(train.classes)


def _forms(kind: str) -> str:
    return (
        f"Give (a) an .npz file with the arrays {', '.join(ARRAYS)}, (b) a folder with train/<class>/*.png and "
        f"test/<class>/*.png, or (c) a folder where torchvision's {kind} keeps its files; download=True makes "
        "(c), --data.options.download true on the command line."
    )
