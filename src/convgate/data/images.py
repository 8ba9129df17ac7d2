"""Labelled images, in memory or in files, and the three parts of a data set."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from convgate.data.normalise import normalise
from convgate.errors import DataError, InputError
from convgate.preparation import Preparation

__all__ = ["AnyImages", "ImageSet", "Images", "Splits", "Stream"]

AnySet = TypeVar("AnySet", bound="AnyImages")


class AnyImages(Protocol):
    """A set of images with labels, masks or boxes: `ImageSet`, or one of `convgate.data.scenes`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What the parts of a data set must have in common."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether reading an image costs next to nothing."""
        ...

    @property
    def stream(self) -> "Stream | None":
        """Reads the same images in another order for training."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, /) -> tuple[Any, Any]:
        """(images, targets) at integer `indices` [M]."""
        ...

    def subset(self, indices: Tensor, /) -> Self:
        """The images at integer `indices` [M], M >= 1, in that order."""
        ...

    def order(self, seed: int) -> Tensor:
        """The numbers of the images, int64 [N], in an order drawn from `seed`."""
        ...


class Images(Protocol):
    """Images of one size, by number: a tensor uint8 [N, C, H, W], or files that are decoded when they are asked for."""

    @property
    def shape(self) -> torch.Size:
        """[N, C, H, W]."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor, /) -> Tensor:
        """The images at integer `indices` [M]: uint8 [M, C, H, W]."""
        ...


class Stream(Protocol):
    """Reads shuffled training images in the order that is fastest, where that is not one by one by number."""

    @property
    def epoch(self) -> int | None:
        """Images that an epoch reads, on all processes together; None for as many as the set has."""
        ...

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, rank: int, world_size: int, workers: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless full batches of this process in an epoch: images uint8 [B, C, H, W], labels int64 [B].

        Their order depends on the arguments alone.
        """
        ...


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels. Raises `DataError` when the parts do not fit together.

    Attributes:
        images: N >= 1 images, see `Images`; a tensor must be contiguous.
        labels: int64 [N], each in [0, len(classes)).
        classes: the name of each class.
        mean: mean of each channel, of pixel values scaled to [0, 1].
        std: standard deviation of each channel; finite and above zero.
        difficulty: float32 [N], greater is harder; None where it is not known.
        view: side of the square in the middle of an image that a network sees in evaluation; None for all of it.
        stream: reads the same images in another order for training; None to read them by number.

    """

    images: Images
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    difficulty: Tensor | None = None
    view: int | None = None
    stream: Stream | None = None

    def __post_init__(self) -> None:
        _check_images(self.images)
        n, channels = self.images.shape[:2]
        _check_vector("labels", self.labels, torch.int64, n)
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"labels run from {low} to {high}, but there are {len(self.classes)} classes: labels must lie in "
                f"[0, {len(self.classes)}). Name every class in `classes`, or renumber the labels."
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels or not all(map(math.isfinite, values)):
                raise DataError(f"{name} is {values}: give one finite number for each of the {channels} channels.")
        if min(self.std) <= 0:
            raise DataError(f"std is {self.std}: every value must be above zero, for images are divided by it.")
        if self.view is not None and not 1 <= self.view <= min(self.images.shape[2:]):
            raise DataError(f"view is {self.view} of images {tuple(self.images.shape[2:])}: it must fit into them.")
        if self.difficulty is not None:
            _check_vector("difficulty", self.difficulty, torch.float32, n)
            if not self.difficulty.isfinite().all():
                raise DataError("difficulty holds NaN or infinity: give finite numbers, or None if it is not known.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def facts(self) -> dict[str, Any]:
        """What the parts of a data set must have in common."""
        return {"classes": self.classes, "image shape": tuple(self.images.shape[1:])}

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """(images uint8 [M, C, H, W], labels int64 [M]) at integer `indices` [M]."""
        return self.at(indices), self.labels[indices.to(self.labels.device)]

    @property
    def in_memory(self) -> bool:
        """Whether reading an image costs next to nothing."""
        return isinstance(self.images, Tensor)

    def at(self, indices: Tensor | Sequence[int]) -> Tensor:
        """The images at integer `indices` [M]: uint8 [M, C, H, W]."""
        return self.images[self._positions(indices)]

    def prepared(self, batch: Tensor) -> Tensor:
        """A batch of this set, uint8 [B, C, H, W], as the input of a network in evaluation: cropped and normalised."""
        return normalise(self.seen(batch), self.mean, self.std)

    @property
    def preparation(self) -> Preparation | None:
        """How a photograph is prepared to look like an image of this set in evaluation; None unless grey or RGB.

        Where the set was made otherwise than by scaling photographs, it is as near as scaling comes.
        """
        channels, height, width = (int(n) for n in self.images.shape[1:])
        if channels not in (1, 3):
            return None
        size = (height, width) if self.view is None else (self.view, self.view)
        resize = height if height == width else (height, width)
        named = self.classes if all(map(str.strip, self.classes)) else ()
        return Preparation(size, resize, "bilinear", tuple(self.mean), tuple(self.std), tuple(named))

    def example(self, n: int = 2) -> Tensor:
        """The first `n` images (fewer, if there are fewer) as the input of a network."""
        return self.prepared(self.at(range(min(n, len(self)))))

    def seen(self, batch: Tensor) -> Tensor:
        """What a network sees in evaluation of a batch [B, C, H, W] of this set: the square in the middle, or all."""
        if self.view is None:
            return batch
        top, left = ((side - self.view) // 2 for side in batch.shape[2:])
        return batch[:, :, top : top + self.view, left : left + self.view]

    def subset(self, indices: Tensor | Sequence[int]) -> Self:
        """The images at integer `indices` [M], M >= 1, in that order."""
        chosen = self._positions(indices)
        return replace(
            self,
            images=self.images[chosen] if isinstance(self.images, Tensor) else _Selected.of(self.images, chosen),
            labels=self.labels[chosen],
            difficulty=None if self.difficulty is None else self.difficulty[chosen],
            stream=None,
        )

    def _positions(self, indices: Tensor | Sequence[int]) -> Tensor:
        device = self.images.device if isinstance(self.images, Tensor) else self.labels.device
        chosen = torch.as_tensor(indices, device=device)
        if chosen.ndim != 1 or not len(chosen) or chosen.dtype not in (torch.int64, torch.int32):
            raise InputError(
                f"indices are {chosen.dtype} of shape {tuple(chosen.shape)}: give a list or a one-dimensional tensor "
                "of one or more integers (for a mask, pass mask.nonzero().flatten())."
            )
        if int(chosen.min()) < 0 or int(chosen.max()) >= len(self):
            raise InputError(
                f"indices run from {int(chosen.min())} to {int(chosen.max())}: they must lie in [0, {len(self)})."
            )
        return chosen

    def order(self, seed: int) -> Tensor:
        """The numbers of the images, int64 [N], in an order drawn from `seed`."""
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))

    def shuffled(self, seed: int) -> Self:
        """All the images in an order drawn from `seed`."""
        return self.subset(self.order(seed))

    def take(self, n: int, seed: int) -> Self:
        """`n` images drawn at random without repeats; never simply the first ones, which may be of one class."""
        if not 1 <= n <= len(self):
            raise InputError(f"n is {n}, of {len(self)} images: it must lie in [1, {len(self)}].")
        return self.subset(self.order(seed)[:n])


@dataclass(frozen=True, eq=False)
class Splits(Generic[AnySet]):
    """A data set: what to learn from, what to choose by, what to report on.

    The three are of one kind: `ImageSet`, `MaskSet` or `BoxSet`. Where nothing is held out to choose by, `validation`
    is `train` itself.

    Raises `DataError` unless the three agree in kind and classes, and images of one size in their shape.
    """

    name: str
    train: AnySet
    validation: AnySet
    test: AnySet

    @property
    def parts(self) -> tuple[AnySet, AnySet, AnySet]:
        """The three, in this order."""
        return self.train, self.validation, self.test

    @property
    def holds_out(self) -> bool:
        """Whether there are images to choose by that are not learned from."""
        return self.validation is not self.train

    def __post_init__(self) -> None:
        for part in ("validation", "test"):
            others = getattr(self, part).facts
            for what, ours in self.train.facts.items():
                if ours != others.get(what):
                    raise DataError(
                        f"{self.name}: {what} of train is {ours}, of {part} {others.get(what)}: make them the same."
                    )


@dataclass(frozen=True, eq=False)
class _Selected:
    """Some of the images of a set that is not in memory, by number; nothing is read before it is asked for."""

    whole: Images
    numbers: Tensor

    @staticmethod
    def of(images: Images, chosen: Tensor) -> "_Selected":
        if isinstance(images, _Selected):
            return _Selected(images.whole, images.numbers[chosen])
        return _Selected(images, chosen)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.whole.shape[1:]))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.whole[self.numbers[indices]]


def _check_images(images: Images) -> None:
    if len(images.shape) != 4 or 0 in images.shape or (isinstance(images, Tensor) and images.dtype != torch.uint8):
        raise DataError(
            f"images are {getattr(images, 'dtype', type(images).__name__)} of shape {tuple(images.shape)}: they must "
            "be torch.uint8 of shape [N, C, H, W] with no side zero."
        )
    if isinstance(images, Tensor) and not images.is_contiguous():
        raise DataError(f"images have strides {images.stride()}: pass images.contiguous().")


def _check_vector(name: str, values: Tensor, dtype: torch.dtype, n: int) -> None:
    if values.dtype != dtype or values.shape != (n,):
        raise DataError(
            f"{name} are {values.dtype} of shape {tuple(values.shape)}: for {n} images they must be {dtype} of "
            f"shape [{n}]."
        )
