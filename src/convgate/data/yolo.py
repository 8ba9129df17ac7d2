"""Boxes in YOLO's format: a text file beside each image, a line for each box."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from convgate.data.holding_out import hold_out
from convgate.data.images import Splits
from convgate.data.scenes import BoxSet, box_target, read_scene_image
from convgate.errors import DataError
from convgate.preparation.files import images_in

__all__ = ["YoloScenes", "yolo"]

_LINE = "class x y width height"


def yolo(
    root: str,
    classes: Sequence[str] | str = "data.yaml",
    train: str = "images/train",
    test: str = "images/val",
    validation: int = 0,
    seed: int = 0,
) -> Splits:
    """Images in `images/`, and in `labels/` text files of the same names: `class x y width height` in each line.

    Classes are numbered from 0; centre and size of a box are shares of the image's width and height. An image without a
    file, or with an empty one, has no objects.

    Args:
        root: the folder that holds all the others.
        classes: the names, in the order of their numbers; or a YAML file in `root` whose `names` they are.
        train: folder of the images to learn from.
        test: folder of the images to report on.
        validation: how many training images are held out to choose by.
        seed: seed of that choice.

    Raises:
        DataError: a folder or file is missing, or a line is not as above.

    """
    home = Path(root).expanduser()
    names = _names(home / classes) if isinstance(classes, str) else tuple(classes)
    parts = [BoxSet(YoloScenes(tuple(images_in(home / part)), home, len(names)), names) for part in (train, test)]
    rest, held_out = hold_out(parts[0], validation, seed)
    return Splits("yolo", rest, held_out, parts[1])


@dataclass(frozen=True)
class YoloScenes:
    """Image files below `root`, and where their boxes are: the nearest folder `images` above them becomes `labels`."""

    paths: tuple[Path, ...]
    root: Path
    classes: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = read_scene_image(self.paths[index])
        height, width = image.shape[1:]
        rows = _rows(_label_file(self.paths[index], self.root), self.classes)
        centre, half = rows[:, 1:3] * [width, height], rows[:, 3:5] * [width, height] / 2
        corners = np.concatenate([centre - half, centre + half], 1).clip(0, [width, height, width, height])
        return image, box_target(corners, rows[:, 0] + 1)


def _label_file(path: Path, root: Path) -> Path:
    parts = list(path.relative_to(root).with_suffix(".txt").parts)
    places = [at for at, part in enumerate(parts) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return root.joinpath(*parts)


def _rows(path: Path, classes: int) -> np.ndarray:
    """[M, 5]: class, centre and size as shares. Boxes without an area are left out."""
    if not path.is_file():
        return np.zeros((0, 5))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}; it is UTF-8 text, each line `{_LINE}`") from error
    rows = np.array([_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]).reshape(-1, 5)
    fits = bool(((rows[:, 0] >= 0) & (rows[:, 0] < classes) & (rows[:, 0] % 1 == 0)).all())
    if not fits or not np.isfinite(rows).all():
        raise DataError(f"{path} has a class that is not one of the {classes} (numbered from 0), or no number")
    return rows[(rows[:, 3] > 0) & (rows[:, 4] > 0)]


def _row(path: Path, number: int, line: str) -> list[float]:
    words = line.split()
    try:
        if len(words) != 5:
            raise ValueError(f"it has {len(words)} words")
        return [float(word) for word in words]
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}; a line is `{_LINE}`, five numbers") from error


def _names(path: Path) -> tuple[str, ...]:
    import yaml

    try:
        names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
        return tuple(map(str, [names[key] for key in sorted(names)] if isinstance(names, dict) else names))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} does not say the classes' names ({error}): it needs `names`, a list; or set classes to the list"
        ) from error
