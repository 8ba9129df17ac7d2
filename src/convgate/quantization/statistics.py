"""What values of a program hold when it runs on images: ranges, and histograms of magnitudes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from convgate.engine.engine import KEPT_SIZES
from convgate.engine.program import Program
from convgate.engine.runtime import NativeNetwork
from convgate.engine.sizes import at
from convgate.errors import InputError
from convgate.quantization.observers import BINS

__all__ = ["Statistics", "Watch"]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of a group of values: the least, the greatest in magnitude, and a histogram of magnitudes other than 0."""

    least: float
    greatest: float
    histogram: np.ndarray


class Watch:
    """Runs a float32 program and looks at its values; nothing is kept of an image but counts.

    Args:
        program: at any size.
        names: the values to look at.
        threads: how many cores.
        isa: which kernels.

    """

    def __init__(self, program: Program, names: Sequence[str], threads: int, isa: str) -> None:
        self.program, self.names = program, tuple(dict.fromkeys(names))
        computed = tuple(name for name in self.names if name not in program.inputs)
        watched = replace(program, outputs=computed or program.outputs, vectors=(), foreign=(), returns=None)
        self._computed = computed
        self._network = lru_cache(KEPT_SIZES)(partial(_network, watched, threads, isa))

    def ranges(self, batches: Iterable[np.ndarray]) -> dict[str, tuple[float, float]]:
        """The least and the greatest element of each value. Raises `InputError` where some are not finite."""
        found: dict[str, tuple[float, float]] = {}
        for name, array in self._values(batches):
            low, high = float(array.min()), float(array.max())
            if not np.isfinite((low, high)).all():
                raise InputError(
                    f"on the images given, '{name}' holds values that are not finite (NaN or infinity); check images "
                    "and weights"
                )
            before = found.get(name, (low, high))
            found[name] = min(low, before[0]), max(high, before[1])
        return found

    def histograms(self, batches: Iterable[np.ndarray], greatest: Mapping[str, float]) -> dict[str, np.ndarray]:
        """int64 [`BINS`] for each value: magnitudes other than 0 in equal parts of 0 .. `greatest`."""
        found = {name: np.zeros(BINS, np.int64) for name in self.names}
        for name, array in self._values(batches):
            magnitudes = np.abs(array[array != 0])
            bins = (magnitudes * np.float32(BINS / greatest[name])).astype(np.int32)
            found[name] += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)
        return found

    def _values(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        for images in batches:
            for begin in range(0, len(images), 4):
                some = np.ascontiguousarray(images[begin : begin + 4])
                network = self._network(*some.shape[1:])  # refuses shapes, also where it has nothing to compute
                yield from ((name, some) for name in self.program.inputs if name in self.names)
                if self._computed:
                    yield from zip(self._computed, network.run([some], {}).outputs, strict=True)


def _network(watched: Program, threads: int, isa: str, channels: int, height: int, width: int) -> NativeNetwork:
    """What runs images of that shape."""
    own = watched.value(watched.inputs[0])
    if channels != own.channels:
        raise InputError(f"images of {channels} channels among those that choose scales: give {own.channels}")
    try:
        sized = at(watched, height, width)
    except InputError as error:
        raise InputError(
            f"images of {height} x {width} among those that choose scales, after such of {own.height} x {own.width}; "
            f"resize them to that. {error}"
        ) from None
    return NativeNetwork(sized, threads, isa)
