"""Images of sizes of their own, with a mask or boxes for each: what segmenters and detectors learn from.

They are read one by one when they are asked for, so nothing grows with their number.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from convgate.errors import DataError, InputError
from convgate.preparation.opening import opened

__all__ = ["IGNORED", "BoxSet", "MaskSet", "SceneReader", "Scenes", "box_target", "read_scene_image"]

IGNORED = 255
"""The label of pixels that count neither in the loss nor in a metric."""


class SceneReader(Protocol):
    """Scenes by number: (image uint8 [3, H, W], target)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Any]:
        """One scene."""
        ...


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images with targets; each image has a size of its own. Of the two kinds, `MaskSet` and `BoxSet`.

    Raises `DataError` for a set without scenes or classes, and for statistics that cannot be.

    Attributes:
        scenes: reads one scene by its number.
        classes: the name of each class.
        mean: mean of each channel, of pixel values scaled to [0, 1].
        std: standard deviation of each channel, above zero.

    """

    holds: ClassVar[str] = "images with targets"
    """What a scene is, in words."""
    in_memory: ClassVar[bool] = False
    stream: ClassVar[None] = None

    scenes: SceneReader
    classes: tuple[str, ...]
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not len(self.scenes) or not self.classes:
            raise DataError(f"there are {len(self.scenes)} images and {len(self.classes)} classes: give at least one")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(map(math.isfinite, values)):
                raise DataError(f"{name} is {values}: give one finite number for each of the 3 channels.")
        if min(self.std) <= 0:
            raise DataError(f"std is {self.std}: every value must be above zero, for images are divided by it.")

    def __len__(self) -> int:
        return len(self.scenes)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        return (self.scenes[index] for index in range(len(self)))

    @property
    def facts(self) -> dict[str, Any]:
        """What the parts of a data set must have in common."""
        return {"kind": self.holds, "classes": self.classes}

    def batch(self, indices: Tensor | Sequence[int]) -> tuple[list[Tensor], list[Any]]:
        """(images, targets) of the scenes at integer `indices`."""
        chosen = [self.scenes[int(index)] for index in indices]
        return [image for image, _ in chosen], [target for _, target in chosen]

    def subset(self, indices: Tensor | Sequence[int]) -> Self:
        """The scenes at integer `indices`, in that order; nothing is read before it is asked for."""
        numbers = torch.as_tensor(indices).tolist()
        if not numbers or min(numbers) < 0 or max(numbers) >= len(self):
            raise InputError(f"indices are {numbers[:5]}..: give at least one, each in [0, {len(self)})")
        return replace(self, scenes=_Selected(self.scenes, tuple(numbers)))

    def order(self, seed: int) -> Tensor:
        """The numbers of the scenes, int64 [N], in an order drawn from `seed`."""
        return torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))

    def take(self, n: int, seed: int) -> Self:
        """`n` scenes drawn at random without repeats."""
        if not 1 <= n <= len(self):
            raise InputError(f"n is {n}, of {len(self)} images: it must lie in [1, {len(self)}].")
        return self.subset(self.order(seed)[:n])


class MaskSet(Scenes):
    """Images with a label for each pixel: a target is uint8 [H, W], classes from 0, `IGNORED` for no label."""

    holds = "images with a label for each pixel"


class BoxSet(Scenes):
    """Images with boxes, as torchvision's detectors take them.

    A target is {"boxes": float32 [M, 4], x1, y1, x2, y2 in pixels; "labels": int64 [M], numbered from 1 (0 is the
    background), class k being `classes[k - 1]`; "iscrowd": int64 [M], 1 for a box around many objects}. M may be 0.
    """

    holds = "images with boxes"


def box_target(boxes: Any, labels: Any, crowd: Any = None) -> dict[str, Tensor]:
    """A target of a `BoxSet`.

    >>> box_target([[1, 2, 5, 9]], [3])["boxes"].shape
    torch.Size([1, 4])
    """
    found = torch.as_tensor(np.asarray(boxes, dtype=np.float32).reshape(-1, 4))
    numbers = torch.as_tensor(np.asarray(labels, dtype=np.int64).reshape(-1))
    crowds = torch.zeros_like(numbers) if crowd is None else torch.as_tensor(np.asarray(crowd, dtype=np.int64))
    return {"boxes": found, "labels": numbers, "iscrowd": crowds.reshape(-1)}


def read_scene_image(path: Path) -> Tensor:
    """An image file at its own size, uint8 [3, H, W]. Grey becomes RGB, an alpha channel is left out.

    As in COCO's annotations, a rotation that is noted in the file is not applied. Raises `DataError`, also for
    more than 8 bits per channel.
    """
    with opened(path, str(path)) as image:
        pixels = np.asarray(image.convert("RGB"))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


@dataclass(frozen=True)
class _Selected:
    """Some of the scenes, by number."""

    whole: SceneReader
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.whole[self.numbers[index]]
