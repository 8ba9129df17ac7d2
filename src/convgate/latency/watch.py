"""Timing an engine image by image, under given masks."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convgate.engine import Engine
from convgate.errors import InputError

__all__ = ["CLOCKS", "Watched", "check_clock", "watch"]

CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.thread_time}
"""What time is told by: as users see it, or the calling thread's on its core, without what other processes take; that
is the engine's only with one thread."""


@dataclass(frozen=True, eq=False)
class Watched:
    """Times per image: `milliseconds` float64 [rounds, images]."""

    milliseconds: np.ndarray

    @property
    def medians(self) -> np.ndarray:
        """Over rounds, float64 [images]."""
        return np.asarray(np.median(self.milliseconds, axis=0))

    @property
    def mean(self) -> float:
        """The mean over images of their medians over rounds."""
        return float(self.medians.mean())

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of an image's times as a share of the median; mean over images."""
        low, high = np.quantile(self.milliseconds, [0.25, 0.75], axis=0)
        return float(((high - low) / 2 / self.medians).mean())


def check_clock(clock: str, engine: Engine) -> None:
    """Raise `InputError` for a clock that there is not, or that does not tell this engine's time."""
    if clock not in CLOCKS:
        raise InputError(f"clock {clock!r}: give one of {', '.join(CLOCKS)}")
    if clock == "cpu" and engine.threads > 1:
        raise InputError(f"the time of one thread is not that of an engine with {engine.threads}; give clock='wall'")


def watch(
    engine: Engine,
    images: Sequence[np.ndarray],
    given: Sequence[Mapping[str, np.ndarray]] | None = None,
    *,
    seconds: float = 2.0,
    clock: str = "wall",
) -> Watched:
    """Call the engine with one image after the other, in rounds, for some seconds, but at least 5 rounds.

    In each round every image has its turn, so that what the processor remembers of masks is what it would in use. Two
    rounds come before those that count.

    Args:
        engine: any.
        images: float32 [1, C, H, W] each.
        given: the masks of each image, in which case gates do not decide; None: they do.
        seconds: how long, by the clock.
        clock: "wall" or "cpu", see `CLOCKS`.

    """
    check_clock(clock, engine)
    if not images:
        raise InputError("watch() was given no images")
    now = CLOCKS[clock]
    rounds: list[list[float]] = []
    executors = [engine.executor_at(*image.shape[2:])[1] for image in images]
    begin = now()
    while len(rounds) < 7 or now() - begin < seconds:
        took = []
        for number, image in enumerate(images):
            start = now()
            if given is None:
                engine(image)
            else:
                # Not engine.run(), which checks masks and returns decisions: for small networks as long as the network.
                executors[number].run([image], given[number])
            took.append(1e3 * (now() - start))
        rounds.append(took)
    return Watched(np.array(rounds[2:]))
