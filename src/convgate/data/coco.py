"""Boxes in COCO's format: one JSON file for each part, and a folder of images."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from convgate.data.holding_out import hold_out
from convgate.data.images import Splits
from convgate.data.scenes import BoxSet, box_target, read_scene_image
from convgate.errors import DataError

__all__ = ["CocoScenes", "coco", "read_coco"]


def coco(
    root: str,
    train: str = "annotations/instances_train2017.json",
    test: str = "annotations/instances_val2017.json",
    train_images: str = "train2017",
    test_images: str = "val2017",
    validation: int = 0,
    seed: int = 0,
) -> Splits:
    """Images with boxes as COCO's JSON files describe them; its `val2017` is what is reported on.

    Classes are the categories in the order of their ids, whatever these are. Images without any box are kept. In boxes
    around crowds (`iscrowd`) detections are neither right nor wrong, and nothing is learned from them.

    Args:
        root: the folder that holds all the others.
        train: file with the boxes to learn from.
        test: file with the boxes to report on.
        train_images: folder of its images.
        test_images: folder of its images.
        validation: how many training images are held out to choose by.
        seed: seed of that choice.

    Raises:
        DataError: a file is missing, or is not in COCO's format.

    """
    home = Path(root).expanduser()
    rest, held_out = hold_out(read_coco(home / train, home / train_images), validation, seed)
    return Splits("coco", rest, held_out, read_coco(home / test, home / test_images))


def read_coco(annotations: Path, images: Path) -> BoxSet:
    """The scenes of one file. Raises `DataError`."""
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
        categories = {int(c["id"]): str(c["name"]) for c in sorted(content["categories"], key=lambda c: c["id"])}
        number = {identity: label for label, identity in enumerate(categories, 1)}
        files = {int(image["id"]): str(image["file_name"]) for image in content["images"]}
        found: dict[int, list[tuple[list[float], int, int]]] = {identity: [] for identity in files}
        for box in content["annotations"]:
            x, y, width, height = map(float, box["bbox"])
            if width > 0 and height > 0:  # COCO has a few of no area, which would be divided by
                corners = [x, y, x + width, y + height]
                found[int(box["image_id"])].append(
                    (corners, number[int(box["category_id"])], int(box.get("iscrowd", 0)))
                )
    except OSError as error:
        raise DataError(
            f"{annotations} cannot be read ({error}): give root, and the names of the files in it"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{annotations} is not in COCO's format ({error!r}): it needs images (id, file_name), categories (id, "
            "name) and annotations (image_id, category_id, bbox as x, y, width, height)"
        ) from error
    if not images.is_dir():
        raise DataError(f"{images} is not there: it is the folder of the images that {annotations} describes")
    return BoxSet(
        CocoScenes(tuple(images / name for name in files.values()), tuple(found.values())), (*categories.values(),)
    )


@dataclass(frozen=True)
class CocoScenes:
    """Image files, and for each of them (corners in pixels, label, crowd) of every box."""

    paths: tuple[Path, ...]
    boxes: tuple[list[tuple[list[float], int, int]], ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = read_scene_image(self.paths[index])
        corners, labels, crowd = zip(*self.boxes[index], strict=True) if self.boxes[index] else ((), (), ())
        height, width = image.shape[1:]
        limits: Any = np.asarray(corners, dtype=np.float64).reshape(-1, 4)
        return image, box_target(limits.clip(0, [width, height, width, height]), labels, crowd)
