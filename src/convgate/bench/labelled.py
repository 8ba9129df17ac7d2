"""Labelled photographs: how often an engine's answer is right, beside how long it takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch.utils import _pytree as pytree

from convgate.bench.built import Call
from convgate.errors import DataError
from convgate.preparation import Preparation
from convgate.preparation.files import images_in

__all__ = ["SCALES", "Labelled", "labelled"]

SCALES = 64
"""Photographs, drawn without their labels, that choose the scales of 8-bit integers; accuracy is on the others."""


@dataclass(frozen=True)
class Labelled:
    """Photographs with the network's output that is right for each, and others without labels."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    others: tuple[Path, ...]
    preparation: Preparation

    def batches(self, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """float32 [n, C, H, W] and int64 [n]; as many as `labelled` was told."""
        for begin in range(0, len(self.paths), n):
            labels = np.array(self.labels[begin : begin + n])
            yield self.preparation.read(self.paths[begin : begin + n]), labels

    def accuracy(self, call: Call, n: int) -> float:
        """The share of the photographs for which an engine's first output, [n, classes], is largest at their class."""
        right = [np.argmax(pytree.tree_leaves(call(images))[0], 1) == labels for images, labels in self.batches(n)]
        return float(np.mean(right))


def labelled(folder: str | PathLike[str], preparation: Preparation, outputs: int, batch: int = 1) -> Labelled:
    """The photographs of a folder with a folder for each class, named as the class is or by its number.

    `SCALES` of them, but at most a quarter, are drawn with torch's global seed to choose scales; of the others as many
    whole batches as there are.

    Raises:
        DataError: too few photographs, or a folder that is no class of a network with so many outputs.

    """
    paths = images_in(folder)
    numbers = _numbers(preparation, outputs)
    by_path = {path: _label(path.relative_to(Path(folder).expanduser()), numbers, outputs) for path in paths}
    order = [paths[number] for number in torch.randperm(len(paths)).tolist()]
    chosen = min(SCALES, len(paths) // 4)
    whole = (len(paths) - chosen) // batch * batch
    if chosen == 0 or whole == 0:
        raise DataError(
            f"{folder} holds {len(paths)} photographs, {chosen} of which choose scales; give 4 at least, and "
            f"a batch of {batch} beside those"
        )
    judged = sorted(order[chosen : chosen + whole])
    return Labelled(tuple(judged), tuple(by_path[path] for path in judged), tuple(order[:chosen]), preparation)


def _numbers(preparation: Preparation, outputs: int) -> Mapping[str, int]:
    """The output of each class by its name, if no other has that name, and by its number."""
    names: Sequence[str] = preparation.classes
    own = {name: number for number, name in enumerate(names) if names.count(name) == 1}
    return own | {str(number): number for number in range(outputs) if str(number) not in own}


def _label(path: Path, numbers: Mapping[str, int], outputs: int) -> int:
    name = path.parts[0]
    if len(path.parts) == 1:
        raise DataError(f"{name} lies beside the folders of classes: put it into that of its class, or elsewhere")
    number = numbers.get(name, numbers.get(name.lstrip("0") or "0") if name.isdecimal() else None)
    if number is None:
        raise DataError(
            f"the folder {name} is no class of the network: name folders as its classes are called, or by their "
            f"numbers, 0 to {outputs - 1}"
        )
    return number
