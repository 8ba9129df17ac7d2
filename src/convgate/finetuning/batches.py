"""The images of a finetuning: trained on in epochs, without end; and what is judged by and calibrated on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.reading.trace import check_images

__all__ = ["Batches"]


_ON_THE_WAY, _CLOSING = 128, 512
# Images that are judged by on the way, and that say what closing costs.


class Batches:
    """Training batches for ever, in epochs; and what is judged by and calibrated on."""

    def __init__(
        self,
        batches: Iterable[Any],
        held_out: Sequence[Any] | None,
        calibrated_on: Sequence[Any] | None,
        labels: bool,
        device: torch.device,
    ) -> None:
        if isinstance(batches, Iterator):
            raise InputError("finetune() was given an iterator, which can be read only once; give a list or a loader")
        self.labels, self.device = labels, device
        self._calibrated_apart = calibrated_on is not None
        if held_out is None and isinstance(batches, list | tuple) and len(batches) >= 2:
            aside = max(1, len(batches) // 8)
            held_out, batches = batches[:aside], batches[aside:]
        self.training = batches
        self.held_out = list(self._some(batches, 256)) if held_out is None else [self.split(b) for b in held_out]
        some = self._some(batches, 512) if calibrated_on is None else map(self.split, calibrated_on)
        self.calibrated_on = [x for x, _ in some]
        if not self.held_out or not self.calibrated_on:
            raise InputError("finetune() was given no images; give at least one batch")

    def split(self, batch: Any) -> tuple[Tensor, Tensor | None]:
        """(images, labels or None), on the network's device."""
        images = batch[0] if isinstance(batch, tuple | list) and batch else batch
        check_images(images, "a batch for finetune()")
        known = batch[1] if self.labels and isinstance(batch, tuple | list) and len(batch) > 1 else None
        return images.to(self.device), None if known is None else known.to(self.device)

    def some_held_out(self) -> list[tuple[Tensor, Tensor | None]]:
        """The first of the images to judge by, so many that a look on the way takes little time."""
        found: list[tuple[Tensor, Tensor | None]] = []
        for batch in self.held_out:
            if sum(len(images) for images, _ in found) < _ON_THE_WAY:
                found.append(batch)
        return found

    def to_close_on(self, seed: int) -> list[Tensor]:
        """Images that say what closing costs: those that are calibrated on, and training images up to so many."""
        found = [x for x in self.calibrated_on if x.shape[2:] == self.calibrated_on[0].shape[2:]]
        if not self._calibrated_apart:
            return found  # these are the training images
        torch.manual_seed(seed)
        for images, _ in self._some(self.training, max(_CLOSING - sum(map(len, found)), 0)):
            if images.shape[2:] == found[0].shape[2:]:
                found.append(images)
        return found

    def epochs(self, seed: int, epoch: int, skip: int) -> Iterator[tuple[int, int, Tensor, Tensor | None]]:
        """(epoch, number in the epoch, images, labels), from the batch `skip` of `epoch` on, without end."""
        while True:
            number, batches = 0, iter(self.training)
            while True:
                # Whatever a loader draws depends on the place in training alone, so that a resumed run sees the same.
                torch.manual_seed((seed * 1_000_003 + epoch) * 1_000_003 + number)
                batch = next(batches, None)
                if batch is None:
                    break
                if number >= skip:
                    yield epoch, number, *self.split(batch)
                number += 1
            if number == 0:
                raise InputError("finetune() was given no images; give at least one batch")
            epoch, skip = epoch + 1, 0

    def _some(self, batches: Iterable[Any], images: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        for batch in batches if images > 0 else ():
            x, labels = self.split(batch)
            yield x, labels
            images -= len(x)
            if images <= 0:
                return
