"""Tar shards in the layout of WebDataset: read by number for evaluation, and shard after shard for training."""

import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from convgate.data.files import decode
from convgate.data.images import ImageSet, Splits
from convgate.errors import DataError, InputError

__all__ = ["ShardImages", "ShardStream", "shards"]

_KINDS = ("jpg", "jpeg", "png", "webp", "bmp")
_LABEL = "cls"


def shards(
    root: str | PathLike[str],
    train: str,
    test: str,
    validation: str | None = None,
    size: int = 224,
    classes: Sequence[str] | None = None,
    epoch: int | None = None,
    buffer: int = 1000,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> Splits:
    """Images in tar shards: `<key>.jpg` (or .jpeg, .png, .webp, .bmp) and `<key>.cls` for each image.

    The .cls file holds the class as text: its number from 0, or its name. Shards are plain tar files, not compressed.
    When the set is made, the shards' tables of contents and all .cls files are read once.

    Images become squares as in `convgate.data.imagenet`: 8/7 of `size`, of which evaluation sees the middle.

    Args:
        root: the folder of the shards.
        train: names of the training shards in it, with braces for ranges and choices: "train-{0000..0146}.tar".
        test: names of the test shards.
        validation: names of the validation shards; None for the last tenth of the training shards, at least one.
        size: height and width that the network sees.
        classes: the name of each class; None for the names that training has, in alphabetical order, or for "0", "1",
            .. where the .cls files hold numbers.
        epoch: images that an epoch of training reads, on all processes together; None for as many as there are.
        buffer: samples, not decoded, that a reading process shuffles at a time.
        mean: mean of each channel, of pixel values scaled to [0, 1].
        std: standard deviation of each channel, of the same values.

    Raises:
        DataError: a shard is missing, compressed or damaged; an image lacks its class, or has an unknown one.
        InputError: `size`, `epoch` or `buffer` out of range; a single training shard and no `validation`.

    """
    for name, value, least in (("size", size, 8), ("epoch", epoch or 1, 1), ("buffer", buffer, 1)):
        if value < least:
            raise InputError(f"{name} is {value}: give {least} or more.")
    path = Path(root).expanduser()
    to_learn = _expanded(path, train)
    if validation is not None:
        held_out = _expanded(path, validation)
    elif len(to_learn) > 1:
        n = max(1, len(to_learn) // 10)
        to_learn, held_out = to_learn[:-n], to_learn[-n:]
    else:
        raise InputError(f"train is {train!r}, one shard, and none can be held out: name the shards of validation.")
    contents = [_contents(part) for part in (to_learn, held_out, _expanded(path, test))]
    names = _classes([label for _, _, label in contents[0]]) if classes is None else tuple(classes)
    side = round(size * 8 / 7)
    number = {name: i for i, name in enumerate(names)}

    def part(files: list[tuple[str, tuple[int, int], str]], stream: ShardStream | None = None) -> ImageSet:
        labels = torch.tensor([_number(label, number, f"{shard} at {at}") for shard, (at, _), label in files])
        images = ShardImages([(shard, *place) for shard, place, _ in files], side)
        return ImageSet(images, labels, names, tuple(mean), tuple(std), view=size, stream=stream)

    stream = ShardStream([str(shard) for shard in to_learn], number, side, buffer, epoch)
    return Splits("shards", part(contents[0], stream), part(contents[1]), part(contents[2]))


class ShardImages:
    """Colour images in tar shards, by number, as squares of one size: uint8 [N, 3, side, side].

    Args:
        places: for each image its shard, the offset of its content in it, and the length of the content, in bytes.
        side: height and width of the squares, in pixels.

    """

    def __init__(self, places: Sequence[tuple[str, int, int]], side: int) -> None:
        self._shards = sorted({shard for shard, _, _ in places})
        number = {shard: i for i, shard in enumerate(self._shards)}
        # One array, not a million objects: processes that read ahead share its memory.
        self._places = np.array([(number[shard], at, length) for shard, at, length in places], dtype=np.int64)
        self.side = side

    @property
    def shape(self) -> torch.Size:
        """[N, 3, side, side]."""
        return torch.Size((len(self), 3, self.side, self.side))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.stack([self._one(*self._places[i].tolist()) for i in torch.as_tensor(indices).tolist()])

    def _one(self, shard: int, at: int, length: int) -> Tensor:
        path = self._shards[shard]
        with open(path, "rb") as file:
            file.seek(at)
            return decode(file.read(length), self.side, f"the image at byte {at} of {path}")


@dataclass(frozen=True)
class ShardStream:
    """Reads training shards from beginning to end: their order is drawn, and their samples are shuffled in a buffer.

    Each pass over the shards draws an order from the seed, the epoch and the number of the pass, the same on every
    node; every node takes each `world_size`-th shard, and each of its reading processes a share of those. So no two
    nodes read the same image in a pass, and together they read all. A process with fewer
    images begins its next pass earlier.

    The order depends on the number of reading processes, too.

    Attributes:
        shards: the paths of the shards.
        classes: class name -> label.
        side: height and width of the images, in pixels.
        buffer: samples, not decoded, that a reading process shuffles at a time.
        epoch: images that an epoch reads, on all nodes together; None for all of the set's.

    """

    shards: Sequence[str]
    classes: dict[str, int]
    side: int
    buffer: int
    epoch: int | None = None

    def batches(
        self, batch_size: int, *, seed: int, epoch: int, rank: int, world_size: int, workers: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `convgate.data.images.Stream`. Raises `InputError` if there are fewer shards than nodes."""
        least = len(self.shards) // world_size
        if not least:
            raise InputError(
                f"there are {len(self.shards)} training shards for {world_size} processes that train: each needs "
                "at least one. Write the images into more shards, or train on fewer processes."
            )
        yield from DataLoader(
            _Samples(self, batch_size, (seed, epoch), rank, world_size),
            batch_size=None,
            num_workers=min(workers, least),
            generator=torch.Generator(),  # or the global random state would be drawn from
        )


class _Samples(IterableDataset[tuple[Tensor, Tensor]]):
    """What one reading process of one node reads in an epoch: endless full batches."""

    def __init__(self, stream: ShardStream, batch_size: int, draws: tuple[int, int], rank: int, nodes: int) -> None:
        self.stream, self.batch_size, self.draws, self.rank, self.nodes = stream, batch_size, draws, rank, nodes

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        import webdataset as wds

        yield from wds.DataPipeline(self._passes, wds.batched(self.batch_size, collation_fn=_stacked, partial=False))

    def _passes(self) -> Iterator[tuple[Tensor, int]]:
        import webdataset as wds
        from webdataset.tariterators import group_by_keys, tar_file_expander

        for n in count():
            order = np.random.default_rng((*self.draws, n)).permutation(len(self.stream.shards))
            chosen = [self.stream.shards[i] for i in order[self.rank :: self.nodes]]
            yield from wds.DataPipeline(
                wds.SimpleShardList(chosen),
                wds.split_by_worker,
                _opened,
                tar_file_expander,
                group_by_keys,
                wds.shuffle(self.stream.buffer, initial=self.stream.buffer, rng=random.Random(repr((self.draws, n)))),
                wds.map(self._decoded),
            )

    def _decoded(self, sample: dict[str, Any]) -> tuple[Tensor, int]:
        name = f"{sample['__key__']} of {sample['__url__']}"
        content = next(sample[kind] for kind in _KINDS if kind in sample)
        label = _number(sample[_LABEL].decode().strip(), self.stream.classes, name)
        return decode(content, self.stream.side, name), label


def _opened(shards: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    # webdataset's own opener leaves files open.
    for shard in shards:
        with open(shard["url"], "rb") as stream:
            yield {**shard, "stream": stream}


def _stacked(samples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(labels)


def _expanded(root: Path, pattern: str) -> list[Path]:
    from webdataset.shardlists import expand_urls

    found = [root / name for name in expand_urls(pattern)]
    absent = [str(path) for path in found if not path.is_file()]
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(found)} shards of {pattern!r} are not there: {', '.join(absent[:3])}."
        )
    return found


def _contents(paths: Sequence[Path]) -> list[tuple[str, tuple[int, int], str]]:
    """For each image of the shards: its shard, the offset and the length of its content, its class as text."""
    return [(str(path), *entry) for path in paths for entry in _of_one(path)]


def _of_one(path: Path) -> Iterator[tuple[tuple[int, int], str]]:
    from webdataset.tariterators import base_plus_ext

    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                key, kind = base_plus_ext(member.name)
                if member.isfile() and key and kind.lower() in _KINDS:
                    images[key] = member.offset_data, member.size
                elif member.isfile() and key and kind.lower() == _LABEL:
                    file = shard.extractfile(member)
                    labels[key] = file.read().decode().strip() if file else ""
    except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as a plain tar file: {error}; unpack a compressed one first."
        ) from error
    if not images or images.keys() != labels.keys():
        odd = sorted(images.keys() ^ labels.keys())
        raise DataError(
            f"{path} holds {len(images)} images and {len(labels)} classes: every image needs a .{_LABEL} file of the "
            f"same name{', unlike ' + ', '.join(odd[:3]) if odd else ''}."
        )
    yield from ((place, labels[key]) for key, place in images.items())


def _classes(labels: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes; those that are numbers run from 0 to the greatest."""
    names = sorted(set(labels))
    return tuple(map(str, range(max(map(int, names)) + 1))) if all(map(str.isdecimal, names)) else tuple(names)


def _number(label: str, classes: dict[str, int], where: str) -> int:
    """The label of a class that is given by name or, where no class has that name, by number."""
    if label in classes:
        return classes[label]
    if label.isdecimal() and int(label) < len(classes):
        return int(label)
    raise DataError(
        f"{where}: the class is {label!r}, and the {len(classes)} classes are {', '.join(list(classes)[:5])}, .."
    )
