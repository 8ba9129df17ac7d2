"""The images that calibration runs: read anew in each pass, so that memory does not grow with their number."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.reading.trace import check_images

__all__ = ["Images"]


class Images:
    """Batches of images, as often as they are asked for.

    A list or a loader is read again in each pass. An iterator can be read only once, so what it yields is kept.

    Args:
        batches: images [N, C, H, W], or tuples that begin with them.
        lists: whether a batch is a list of images [C, H, W] of any sizes, as detectors take them, or a tuple that
            begins with one.
        by: the function that was given them, for error messages.

    Raises:
        InputError: what was given does not hold batches of images, or holds none.

    """

    def __init__(self, batches: Iterable[Any], *, lists: bool = False, by: str = "calibrate()") -> None:
        if not isinstance(batches, Iterable) or isinstance(batches, str | Mapping):
            raise InputError(f"{by} was given a {type(batches).__name__}; give a list or loader of image batches")
        self._batches = list(batches) if isinstance(batches, Iterator) else batches
        self._checked, self._lists, self._by = 0, lists, by

    def read(self, limit: int | None = None) -> Iterator[Any]:
        """The batches, or as many of the first as hold at least `limit` images; each checked when first read."""
        images = 0
        for number, batch in enumerate(self._batches):
            first = self._images(batch)
            if number >= self._checked:
                self._check(first, number)
                self._checked = number + 1
            yield first
            images += len(first)
            if limit is not None and images >= limit:
                return
        if images == 0:
            raise InputError(f"{self._by} was given no images; give at least one batch")

    def _images(self, batch: Any) -> Any:
        if not isinstance(batch, tuple | list) or not batch:
            return batch
        if self._lists and all(isinstance(image, Tensor) and image.dim() == 3 for image in batch):
            return batch
        return batch[0]

    def _check(self, images: Any, number: int) -> None:
        what = f"batch {number} for {self._by}"
        if self._lists:
            if not isinstance(images, tuple | list) or not images:
                raise InputError(f"{what} is a {type(images).__name__}; give a list of images [C, H, W]")
            for index, image in enumerate(images):
                check_images(image[None] if isinstance(image, Tensor) else image, f"image {index} of {what}")
        else:
            check_images(images, what)
        if not all(bool(torch.isfinite(image).all()) for image in images):
            raise InputError(f"{what} holds values that are not finite (NaN or infinity); check the images")
