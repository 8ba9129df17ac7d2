"""Photographs for finetuning: decoded once, seen in ever new views."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convgate.errors import DataError
from convgate.preparation import Preparation
from convgate.preparation.pixels import resized

__all__ = ["Photographs", "Views"]

_MEMORY = 2**30
# Bytes of photographs that are kept; those beyond are decoded again each time.
_SMALLEST = 0.6
# Side of the smallest view, as a share of the photograph's shorter side.


class Photographs:
    """Files of images, at the size that they are cut at.

    Args:
        paths: the files.
        preparation: of the network.
        labels: outputs of the network, one per file; None where they are not known.

    """

    def __init__(self, paths: Sequence[Path], preparation: Preparation, labels: Sequence[int] | None = None) -> None:
        self.paths, self.preparation = tuple(paths), preparation
        self.labels = None if labels is None else list(labels)
        self._kept: dict[int, np.ndarray] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, progress: Callable[[int], None] = lambda done: None) -> dict[Path, str]:
        """Decode all of them once. Those that cannot be read are left out, and returned with the reason."""
        bad: dict[Path, str] = {}
        good: list[int] = []
        with ThreadPoolExecutor(2) as pool:
            for number, found in enumerate(pool.map(self._decoded, self.paths)):
                if isinstance(found, DataError):
                    bad[self.paths[number]] = str(found)
                else:
                    self._keep(len(good), found)
                    good.append(number)
                progress(number + 1)
        self.paths = tuple(self.paths[number] for number in good)
        self.labels = None if self.labels is None else [self.labels[number] for number in good]
        return bad

    def scaled(self, number: int) -> np.ndarray:
        """One of them before it is cut, uint8 [H, W, C]."""
        return self._kept[number] if number in self._kept else self.preparation.scaled(self.paths[number])

    def batch(self, numbers: Sequence[int]) -> Tensor | tuple[Tensor, Tensor]:
        """Some of them as in evaluation, float32 [N, C, H, W], with their labels, int64 [N], where those are known."""
        images = [self.preparation.normalised(self.preparation.cut(self.scaled(number))) for number in numbers]
        return self._with_labels(torch.from_numpy(np.stack(images)), numbers)

    def batches(self, numbers: Sequence[int], size: int) -> list[Tensor | tuple[Tensor, Tensor]]:
        """All of these as in evaluation, in batches of `size`."""
        return [self.batch(numbers[first : first + size]) for first in range(0, len(numbers), size)]

    def _with_labels(self, images: Tensor, numbers: Sequence[int]) -> Tensor | tuple[Tensor, Tensor]:
        if self.labels is None:
            return images
        return images, torch.tensor([self.labels[number] for number in numbers], dtype=torch.int64)

    def _decoded(self, path: Path) -> np.ndarray | DataError:
        try:
            return self.preparation.scaled(path)
        except DataError as error:
            return error

    def _keep(self, number: int, pixels: np.ndarray) -> None:
        if self._bytes + pixels.nbytes <= _MEMORY:
            self._bytes += pixels.nbytes
            self._kept[number] = pixels


class Views:
    """Shuffled batches of random crops and reflections; their order and their places follow torch's global seed.

    Args:
        photographs: where they are cut from.
        numbers: of the photographs that are seen.
        batch: images in a batch; a last batch of fewer than 2 is left out.

    """

    def __init__(self, photographs: Photographs, numbers: Sequence[int], batch: int) -> None:
        self.photographs, self.numbers, self.batch = photographs, torch.tensor(numbers), batch

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        order = self.numbers[torch.randperm(len(self.numbers))]
        for chosen in order.split(self.batch):
            if len(chosen) < 2:
                return
            numbers = chosen.tolist()
            images = [self._view(self.photographs.scaled(number)) for number in numbers]
            yield self.photographs._with_labels(torch.from_numpy(np.stack(images)), numbers)

    def _view(self, pixels: np.ndarray) -> np.ndarray:
        preparation = self.photographs.preparation
        height, width = preparation.size
        share = _SMALLEST + (1 - _SMALLEST) * float(torch.rand(()))
        factor = share * min(pixels.shape[0] / height, pixels.shape[1] / width)
        rows, columns = max(round(height * factor), 1), max(round(width * factor), 1)
        top, left = (
            int(torch.randint(have - taken + 1, ())) for have, taken in zip(pixels.shape, (rows, columns), strict=False)
        )
        cut = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
        view = resized(cut, height, width, preparation.interpolation)
        return preparation.normalised(view[:, ::-1] if float(torch.rand(())) < 0.5 else view)
