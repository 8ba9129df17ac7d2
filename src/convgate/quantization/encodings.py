"""The element type and the scale of each value that integers stand for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from convgate.engine.program import Element
from convgate.quantization.observers import BINS, MinMax, Observer
from convgate.quantization.statistics import Watch
from convgate.quantization.ties import tied

__all__ = ["Encoding", "encodings"]


@dataclass(frozen=True)
class Encoding:
    """How a value is stored: integers of a type, in units of `scale`."""

    element: Element
    scale: float


def encodings(
    watch: Watch,
    batches: Callable[[], Iterable[np.ndarray]],
    groups: Mapping[str, frozenset[str]],
    shortcuts: Iterable[tuple[str, str]],
    negative: frozenset[str],
    observer: Observer,
) -> dict[str, Encoding]:
    """The encoding of every value in `groups`; all of a group have one.

    Args:
        watch: looks at all of these values.
        batches: gives the images, as often as it is called.
        groups: by value, those that must share its encoding.
        shortcuts: (shortcut, sum) of residual sums that share theirs if their ranges are alike; see `tied`.
        negative: the values that may be negative; groups without any are stored without a sign.
        observer: chooses ranges.

    """
    own = {name: max(map(abs, ends)) for name, ends in watch.ranges(batches()).items()}
    groups = tied(groups, shortcuts, own)
    seen = {name: max(own[other] for other in group) for name, group in groups.items()}
    # Of a value that was always 0, as behind gates that closed all of it, nothing is known: a scale like the others'
    # can be brought to theirs.
    usual = median([value for value in seen.values() if value > 0] or [1.0])
    greatest = {name: max(value, 1e-12) if value > 0 else usual for name, value in seen.items()}
    histograms = {name: np.zeros(BINS, np.int64) for name in groups}
    if not isinstance(observer, MinMax):
        histograms = watch.histograms(batches(), greatest)
    found = {}
    for name, group in groups.items():
        element = Element.INT8 if group & negative else Element.UINT8
        levels = element.limits[1]
        histogram = np.sum([histograms[other] for other in group], 0)
        limit = observer.limit(greatest[name], histogram, levels) if histogram.any() else greatest[name]
        # A number that float32 has, so that the scale is the same wherever it is used.
        found[name] = Encoding(element, float(np.float32(limit / levels)))
    return found
