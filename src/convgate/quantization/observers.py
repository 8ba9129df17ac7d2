"""Rules for the range that a value's integers cover, from what was observed of it.

A range [-limit, limit], or [0, limit] where nothing is negative, is cut into equal steps. A larger limit clips less, a
smaller one has finer steps.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from convgate.errors import InputError

__all__ = ["BINS", "MeanSquaredError", "MinMax", "Observer", "Percentile"]

BINS = 2048
"""Bins of the histogram of magnitudes, from 0 to the greatest."""


class Observer(Protocol):
    """A rule; one of your own is any object with this method."""

    def limit(self, greatest: float, histogram: np.ndarray, levels: int) -> float:
        """The limit of the range.

        Args:
            greatest: the greatest magnitude that was seen, more than 0.
            histogram: int64 [`BINS`], how many magnitudes other than 0 lie in each of equal parts of 0 .. `greatest`.
            levels: how many steps the range has from 0 to the limit: 255 or 127.

        """
        ...


@dataclass(frozen=True)
class MinMax:
    """The range holds all that was seen.

    >>> MinMax().limit(8.0, np.ones(BINS, np.int64), 255)
    8.0
    """

    def limit(self, greatest: float, histogram: np.ndarray, levels: int) -> float:
        """See `Observer`."""
        return greatest


@dataclass(frozen=True)
class Percentile:
    """The range holds `percent` of the magnitudes that were seen, without zeros.

    Raises `InputError` unless `percent` is over 0 and at most 100.

    >>> Percentile(50).limit(8.0, np.ones(BINS, np.int64), 255)
    4.0
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise InputError(f"Percentile({self.percent}): give a percentage over 0 and at most 100")

    def limit(self, greatest: float, histogram: np.ndarray, levels: int) -> float:
        """See `Observer`."""
        below = np.cumsum(histogram)
        index = int(np.searchsorted(below, below[-1] * self.percent / 100))
        return greatest * min(index + 1, BINS) / BINS


@dataclass(frozen=True)
class MeanSquaredError:
    """The range whose rounding and clipping, together, change the magnitudes that were seen least, squared.

    Rounding to steps of s costs s^2 / 12 on average, clipping the square of what is cut off (Banner et al., "Post
    training 4-bit quantization", NeurIPS 2019, section 3, whose closed form for assumed distributions is a search
    here).
    """

    def limit(self, greatest: float, histogram: np.ndarray, levels: int) -> float:
        """See `Observer`."""
        centres = (np.arange(BINS) + 0.5) * (greatest / BINS)
        limits = np.arange(BINS // 16, BINS + 1, BINS // 128) * (greatest / BINS)
        clipped = np.maximum(centres - limits[:, None], 0)
        rounded = np.where(centres <= limits[:, None], (limits[:, None] / levels) ** 2 / 12, 0)
        errors = ((clipped**2 + rounded) * histogram).sum(1)
        return float(limits[int(np.argmin(errors))])
