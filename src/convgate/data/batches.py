"""Batches of a set of images: shuffled, resumable, shared between processes, read ahead where reading takes time.

torch's own samplers do not do for this: DistributedSampler repeats images when evaluating, draws from the global random
state each epoch, and takes the orders of (seed 0, epoch 1) and (seed 1, epoch 0) to be the same. What reads ahead is
torch's DataLoader.
"""

from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convgate.cores import usable_cores
from convgate.data.images import AnyImages
from convgate.errors import InputError

__all__ = ["Batches"]


class Batches:
    """An iterable over `(images uint8 [B, C, H, W], labels int64 [B])`, on the device that holds the images.

    Of scenes (`MaskSet`, `BoxSet`) a batch is `(list of images uint8 [3, H, W], list of targets)`.

    The order depends on `seed` and the epoch alone, never on what ran before, so an interrupted run that calls
    `set_epoch` resumes with the batches it would have seen.

    With `world_size` > 1 each rank gets its own share. Shuffled (training), the shares are equally long: the order is
    wrapped to fill them up, so at most `world_size - 1` images come twice an epoch (more if there are fewer images
    than ranks). Not shuffled (evaluation), every image comes exactly once, so the shares may differ by one image: do
    not synchronise ranks per batch there, only at the end.

    A set with a `stream` is read by it where `shuffle` is set: full batches, in an order of the stream's, and as
    many as hold the images of an epoch.

    Lightning calls `set_epoch` by itself, through `batch_sampler`; in your own loop, call it before each epoch.

    Args:
        images: the set to draw from.
        batch_size: images per batch and rank; the last batch may be smaller.
        seed: seed of the shuffling; zero or greater, the same on every rank.
        shuffle: draw a new order each epoch.
        rank: this process, in [0, world_size).
        world_size: the number of processes.
        drop_last: leave out a last batch that is not full.
        workers: how many processes read ahead; None: one per usable core, and none for images in memory.

    """

    def __init__(
        self,
        images: AnyImages,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        workers: int | None = None,
    ) -> None:
        _check_at_least("batch_size", batch_size, 1)
        _check_at_least("world_size", world_size, 1)
        _check_at_least("seed", seed, 0)
        _check_at_least("workers", 0 if workers is None else workers, 0)
        if not 0 <= rank < world_size:
            raise InputError(f"rank is {rank}, world_size {world_size}: rank must lie in [0, {world_size}).")
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.workers = 0 if images.in_memory else usable_cores() if workers is None else workers
        self.epoch = 0
        if not len(self):
            raise InputError(
                f"rank {rank} of {world_size} would get no batch: it has {self._share()} of the {len(images)} images, "
                f"at batch_size {batch_size} with drop_last={drop_last}. Lower batch_size or world_size, or let the "
                "last batch be smaller."
            )

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where Lightning looks for `set_epoch`: it calls `loader.batch_sampler.sampler.set_epoch(epoch)`."""
        # Not a plain `sampler`: at that Lightning takes evaluation to be shuffled, and warns.
        return SimpleNamespace(sampler=self, batch_size=self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; `epoch` >= 0. A pass that has yielded a batch keeps its own."""
        _check_at_least("epoch", epoch, 0)
        self.epoch = epoch

    def __len__(self) -> int:
        full, left = divmod(self._share(), self.batch_size)
        return full if self.drop_last or not left else full + 1

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        # A generator: the order is drawn, and reading ahead begins, at the first batch. Lightning makes the iterator of
        # a resumed run's first epoch before it calls set_epoch.
        if self.shuffle and self.images.stream is not None:
            how = {"seed": self.seed, "epoch": self.epoch, "rank": self.rank, "world_size": self.world_size}
            endless = self.images.stream.batches(self.batch_size, workers=self.workers, **how)
            yield from islice(endless, len(self))
            return
        chosen = list(self._indices().split(self.batch_size)[: len(self)])
        if not self.workers:
            for indices in chosen:
                yield self.images.batch(indices)
            return
        yield from DataLoader(
            _ByBatch(self.images),
            batch_size=None,
            sampler=chosen,
            num_workers=min(self.workers, len(chosen)),
            generator=torch.Generator(),  # or the global random state would be drawn from
        )

    def _share(self) -> int:
        """Images of this rank."""
        n = len(self.images)
        if self.shuffle and self.images.stream is not None:
            n = self.images.stream.epoch or n
        return -(-n // self.world_size) if self.shuffle else len(range(self.rank, n, self.world_size))

    def _indices(self) -> Tensor:
        n = len(self.images)
        if not self.shuffle:
            return torch.arange(self.rank, n, self.world_size)
        order = np.random.default_rng((self.seed, self.epoch)).permutation(n)
        padded = np.resize(order, self._share() * self.world_size)
        return torch.from_numpy(padded[self.rank :: self.world_size].copy())


class _ByBatch(Dataset[tuple[Any, Any]]):
    """What a DataLoader's processes read: a batch for each tensor of indices."""

    def __init__(self, images: AnyImages) -> None:
        self.images = images

    def __getitem__(self, indices: Tensor) -> tuple[Any, Any]:
        return self.images.batch(indices)


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} is {value}: give {least} or more.")
