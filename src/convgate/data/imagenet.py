"""ImageNet, or any folders of images by class, decoded while training."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import torch

from convgate.data.files import ImageFiles
from convgate.data.holding_out import hold_out
from convgate.data.images import ImageSet, Splits
from convgate.errors import DataError, InputError

__all__ = ["imagenet"]

_KINDS = (".jpeg", ".jpg", ".png", ".webp", ".bmp")


def imagenet(
    root: str | PathLike[str],
    size: int = 224,
    validation: int | None = None,
    seed: int = 0,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> Splits:
    """Folders of images, `root/train/<class>/*` and `root/val/<class>/*`, at 224 pixels unless asked otherwise.

    Images are kept as the middle squares of 8/7 of the size (256 for 224); evaluation sees the square of `size` in the
    middle of that. Training's resized crops (`Augmentation`, crop="resized") are cut from the middle square, too.

    Args:
        root: the folder.
        size: height and width that the network sees.
        validation: how many training images are held out, at random; 0 for none; None for a tenth, 10,000 at most.
            `root/val` is the test set.
        seed: of that choice.
        mean: mean of each channel, of pixel values scaled to [0, 1].
        std: standard deviation of each channel, of the same values.

    Raises:
        DataError: no such folders, other classes in one than in the other, or no images.
        InputError: `validation` or `size` out of range.

    """
    if size < 8:
        raise InputError(f"size is {size}: give at least 8 pixels.")
    path = Path(root).expanduser()
    train, test = _listed(path / "train"), _listed(path / "val")
    if train.keys() != test.keys():
        lacking = [
            f"{part} has none of {', '.join(sorted(names)[:5])}{', ..' if len(names) > 5 else ''}"
            for part, names in (("train", test.keys() - train.keys()), ("val", train.keys() - test.keys()))
            if names
        ]
        raise DataError(f"{path}: {'; '.join(lacking)}. Give train and val the same class folders.")
    classes = tuple(train)

    def whole(files: dict[str, list[Path]]) -> ImageSet:
        labels = [number for number, name in enumerate(classes) for _ in files[name]]
        images = ImageFiles([file for name in classes for file in files[name]], round(size * 8 / 7))
        labelled = torch.tensor(labels, dtype=torch.int64)
        return ImageSet(images, labelled, classes, tuple(mean), tuple(std), view=size)

    rest, held_out = hold_out(whole(train), validation, seed, most=10_000)
    return Splits("imagenet", rest, held_out, whole(test))


def _listed(path: Path) -> dict[str, list[Path]]:
    """Class -> its files, both in alphabetical order."""
    if not path.is_dir():
        raise DataError(f"{path} is not there: give a folder that holds train/<class>/* and val/<class>/*.")
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
    found = {f.name: sorted(file for file in f.iterdir() if file.suffix.lower() in _KINDS) for f in folders}
    if not found or not all(found.values()):
        empty = [name for name, files in found.items() if not files]
        raise DataError(f"{path} has no images{' in ' + ', '.join(empty[:5]) if empty else ''}.")
    return found
