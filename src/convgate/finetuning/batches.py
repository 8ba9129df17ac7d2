"""The images of a finetuning: trained on in epochs, without end; and what is judged by and calibrated on."""

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.reading.trace import check_images

__all__ = ["Batches", "checksum"]


_ON_THE_WAY, _CLOSING = 128, 512
# Images that are judged by on the way, and that say what closing costs,
_PIXELS = 512 * 224 * 224
# as long as they have at most so many pixels together: larger images say more each.
_PRIME, _SEEDS = 1_000_003, 2**63


class Batches:
    """Training batches for ever, in epochs; and what is judged by and calibrated on.

    What a loader draws follows from `seed` and the place in training alone, so that a run that goes on sees what it
    would have seen: before each epoch the global generators, those of the loader and of its samplers are seeded, and
    samplers that count epochs are told the epoch. Whatever else an iterable draws from is its own affair.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        held_out: Sequence[Any] | None,
        calibrated_on: Sequence[Any] | None,
        labels: bool,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        if isinstance(batches, Iterator):
            raise InputError("finetune() was given an iterator, which can be read only once; give a list or a loader")
        if getattr(batches, "persistent_workers", False):
            raise InputError(
                "finetune() was given a loader whose workers persist: it cannot be read twice at once, and goes on "
                "drawing from where the last epoch ended; give one with persistent_workers=False"
            )
        self.labels, self.device, self.seed = labels, device, seed
        self._calibrated_apart = calibrated_on is not None
        if held_out is None and isinstance(batches, list | tuple) and len(batches) >= 2:
            aside = max(1, len(batches) // 8)
            held_out, batches = batches[:aside], batches[aside:]
        self.training = batches
        self.held_out = list(self._some(batches, 256, seed)) if held_out is None else [self.split(b) for b in held_out]
        some = self._some(batches, 512, seed) if calibrated_on is None else map(self.split, calibrated_on)
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

    def to_close_on(self, draw: int) -> list[Tensor]:
        """Images that say what closing costs: those that are calibrated on, and training images up to so many."""
        found = [x for x in self.calibrated_on if x.shape[2:] == self.calibrated_on[0].shape[2:]]
        most = _PIXELS // found[0][0, 0].numel()
        if self._calibrated_apart:  # else these are the training images
            more = max(min(_CLOSING, most) - sum(map(len, found)), 0)
            for images, _ in self._some(self.training, more, self.seed + draw):
                if images.shape[2:] == found[0].shape[2:]:
                    found.append(images)
        return _first(found, most)

    def epochs(
        self, epoch: int, skip: int, skipped: Callable[[Tensor], None] = lambda images: None
    ) -> Iterator[tuple[int, int, Tensor, Tensor | None]]:
        """(epoch, number in the epoch, images, labels), from the batch `skip` of `epoch` on, without end.

        `skipped` is told the images of the last batch before that one.
        """
        while True:
            number, batches = 0, self._begun(epoch)
            while True:
                _seed_all((self.seed * _PRIME + epoch) * _PRIME + number)
                batch = next(batches, None)
                if batch is None:
                    break
                if number >= skip:
                    yield epoch, number, *self.split(batch)
                elif number == skip - 1:
                    skipped(self.split(batch)[0])
                number += 1
            if number == 0:
                raise InputError("finetune() was given no images; give at least one batch")
            epoch, skip = epoch + 1, 0

    def _begun(self, epoch: int) -> Iterator[Any]:
        """The training batches from the first on; what a loader draws, some of it as it begins, follows the epoch."""
        place = (self.seed * _PRIME + epoch) * _PRIME
        _seed_all(place)
        for generator in _generators(self.training):
            generator.manual_seed(place % _SEEDS)
        for part in _parts(self.training):
            if callable(set_epoch := getattr(part, "set_epoch", None)):
                set_epoch(epoch)
        return iter(self.training)

    def _some(self, batches: Iterable[Any], images: int, seed: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The first batches, of so many images; an epoch that is being read goes on as if nobody had looked."""
        _seed_all(seed)
        generators = _generators(batches)
        states = [generator.get_state() for generator in generators]
        for generator in generators:
            generator.manual_seed(seed % _SEEDS)
        try:
            for batch in batches if images > 0 else ():
                x, labels = self.split(batch)
                yield x, labels
                images -= len(x)
                if images <= 0:
                    return
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def _first(batches: list[Tensor], images: int) -> list[Tensor]:
    """The first of the batches, until they hold so many images; at least one."""
    held = np.cumsum([0, *map(len, batches[:-1])])
    return [batch for batch, before in zip(batches, held, strict=True) if before < max(images, 1)]


def checksum(images: Tensor) -> int:
    """Of their bytes: whether two batches are the same."""
    return zlib.crc32(images.contiguous().view(torch.uint8).numpy(force=True).tobytes())


def _parts(loader: Any) -> list[Any]:
    """A loader, and the samplers that it draws from."""
    inner = getattr(loader, "batch_sampler", None)
    return [loader, getattr(loader, "sampler", None), inner, getattr(inner, "sampler", None)]


def _generators(loader: Any) -> list[torch.Generator]:
    found = [getattr(part, "generator", None) for part in _parts(loader)]
    return [generator for generator in found if isinstance(generator, torch.Generator)]


def _seed_all(seed: int) -> None:
    """The generators that transforms of images draw from."""
    torch.manual_seed(seed % _SEEDS)
    random.seed(seed)
    np.random.seed(seed % 2**32)
