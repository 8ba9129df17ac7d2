"""The picture of several runs: accuracy against MACs, and against latency where it was measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from statistics import fmean
from typing import TYPE_CHECKING, Any

from convgate.drawing import BLUE, FAINT, GREY, INK, ORANGE, VERMILION, Drawing, draw
from convgate.runs.groups import Estimate
from convgate.runs.record import Record
from convgate.runs.sweep import pareto

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["against"]

_SIZE = (440.0, 300.0)
_IN = " in "
_LOOKS = ((BLUE, "o"), (ORANGE, "s"), (VERMILION, "^"), (INK, "D"), (GREY, "v"))


def against(records: Sequence[Record], axis: str) -> Drawing | None:
    """Accuracy against "MACs" or "latency"; None if fewer than two points are known.

    A colour for each method, against latency in each precision that was timed; a name for each run. Runs that differ in
    their seed alone are one point, with the standard error of their mean. The points that none beats are joined.
    """
    cost, dense, label = _AXES[axis]
    records = [form for record in records for form in _in_precisions(record)] if axis == "latency" else records
    ungated: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        if record.dense_accuracy and (x := dense(record)) is not None:
            ungated.setdefault(_ungated(record), []).append((x, 100 * record.dense_accuracy))
    known = _points([record for record in records if cost(record) is not None], cost)
    if len(known) < 2:
        return None
    front = pareto(known, lambda point: point.cost)
    methods = sorted({point.method for point in known})

    def paint(ax: "Axes") -> None:
        ax.plot([p.cost for p in front], [p.accuracy for p in front], color=FAINT, zorder=1)
        for method, (colour, marker) in zip(methods, cycle(_LOOKS), strict=False):
            points = [p for p in known if p.method == method]
            x, y, errors = zip(*((p.cost, p.accuracy, p.error) for p in points), strict=True)
            ax.errorbar(x, y, errors, fmt=marker, ms=6, color=colour, capsize=3, zorder=2, label=method)
        for (name, found), (_, marker) in zip(ungated.items(), cycle(_LOOKS), strict=False):
            mean = [fmean(values) for values in zip(*found, strict=True)]
            look: dict[str, Any] = {"edgecolor": GREY, "lw": 1.5, "zorder": 2, "marker": marker}
            ax.scatter([mean[0]], [mean[1]], 40, "white", label=name, **look)
        middle = sum(ax.get_xlim()) / 2
        for point in known:
            # Towards the middle, where there is room.
            side, place = (-7, "right") if point.cost > middle else (7, "left")
            at, offset = (point.cost, point.accuracy), (side, 0)
            ax.annotate(point.name, at, offset, textcoords="offset points", ha=place, va="center", color=GREY, size=8)
        ax.set_xlabel(label)
        ax.set_title("Accuracy on the test images (%)")
        ax.grid(axis="y")
        ax.margins(0.1)
        ax.legend(loc="lower right")

    words = "; ".join(f"{point.name} {point.accuracy:.2f}% at {point.cost:.4g}" for point in known)
    return draw(paint, f"Accuracy against {label}: {words}.", width=_SIZE[0], height=_SIZE[1])


@dataclass(frozen=True)
class _Point:
    """A run, or the mean of several that differ in their seed alone: cost; accuracy and its standard error, percent."""

    cost: float
    accuracy: float
    error: float
    name: str
    method: str


def _points(records: Sequence[Record], cost: "_Number") -> list[_Point]:
    """In order of their costs, which are known."""
    found: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        named = record.run.removesuffix(f"-{record.seed}")
        found.setdefault((named, record.recipe, record.method, record.epochs, record.control), []).append(record)
    points = []
    for (named, _, method, _, _), some in found.items():
        accuracy = Estimate.of([record.accuracy for record in some])
        name = f"{named}, {len(some)} seeds" if len(some) > 1 else some[0].run
        mean = fmean(value for record in some if (value := cost(record)) is not None)
        shown = method if some[0].is_gated else "no gates"
        points.append(_Point(mean, 100 * accuracy.mean, 100 * (accuracy.error or 0.0), name, shown))
    return sorted(points, key=lambda point: (point.cost, point.accuracy))


def _in_precisions(record: Record) -> Iterator[Record]:
    """The run, and as it is in each other precision in which it was timed."""
    yield record
    for name, one in record.in_precisions.items():
        if one["accuracy"] is not None and one["ms"] is not None:
            yield replace(
                record,
                method=f"{record.method}{_IN}{name}",
                accuracy=one["accuracy"],
                dense_accuracy=one["dense_accuracy"],
                latency_gated_ms=one["ms"],
                latency_dense_ms=one["dense_ms"],
            )


def _ungated(record: Record) -> str:
    _, separator, precision = record.method.partition(_IN)
    return f"ungated{separator}{precision}"


def _share(record: Record) -> float | None:
    return 100 * record.macs_share


_Number = Callable[[Record], float | None]
_AXES: dict[str, tuple[_Number, _Number, str]] = {
    "MACs": (_share, lambda _: 100.0, "MACs per image, % of the ungated network's"),
    "latency": (lambda r: r.latency_gated_ms, lambda r: r.latency_dense_ms, "ms per image on the engine"),
}
