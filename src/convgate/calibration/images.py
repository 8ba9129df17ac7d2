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

    Raises:
        InputError: what was given does not hold batches of images, or holds none.

    """

    def __init__(self, batches: Iterable[Any]) -> None:
        if not isinstance(batches, Iterable) or isinstance(batches, str | Mapping):
            raise InputError(
                f"calibrate() was given a {type(batches).__name__}; give a list or loader of image batches"
            )
        self._batches = list(batches) if isinstance(batches, Iterator) else batches
        self._checked = 0

    def read(self, limit: int | None = None) -> Iterator[Tensor]:
        """The batches, or as many of the first as hold at least `limit` images; each checked when first read."""
        images = 0
        for number, batch in enumerate(self._batches):
            first = batch[0] if isinstance(batch, tuple | list) and batch else batch
            if number >= self._checked:
                check_images(first, f"batch {number} for calibrate()")
                if not bool(torch.isfinite(first).all()):
                    raise InputError(
                        f"batch {number} for calibrate() holds values that are not finite (NaN or infinity); check "
                        "the images"
                    )
                self._checked = number + 1
            yield first
            images += len(first)
            if limit is not None and images >= limit:
                return
        if images == 0:
            raise InputError("calibrate() was given no images; give at least one batch")
