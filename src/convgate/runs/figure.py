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
_COLOURS, _MARKERS = (BLUE, ORANGE, VERMILION, INK, GREY), ("o", "s", "^", "D", "v")


def against(records: Sequence[Record], axis: str) -> Drawing | None:
    """Accuracy against "MACs" or "latency"; None if fewer than two points are known.

    A colour for each method, against latency a form of marker for each precision that was timed; a name for each run.
    Runs that differ in their seed alone are one point, with the standard error of their mean. The points that none
    beats are joined.
    """
    cost, dense, label = _AXES[axis]
    forms = [form for record in records for form in (_forms(record) if axis == "latency" else [("", record)])]
    known = _points([(precision, record) for precision, record in forms if cost(record) is not None], cost)
    if len(known) < 2:
        return None
    ungated: dict[str, list[tuple[float, float]]] = {}
    for precision, record in forms:
        if record.dense_accuracy and (x := dense(record)) is not None:
            ungated.setdefault(precision, []).append((x, 100 * record.dense_accuracy))
    front = pareto(known, lambda point: point.cost)
    methods = dict(zip(sorted({point.method for point in known}), cycle(_COLOURS), strict=False))
    precisions = dict.fromkeys(precision for precision, _ in forms)
    # Of one precision, methods differ in their markers, too, for who sees no colours.
    markers = dict(zip(precisions if len(precisions) > 1 else methods, cycle(_MARKERS), strict=False))

    def paint(ax: "Axes") -> None:
        ax.plot([p.cost for p in front], [p.accuracy for p in front], color=FAINT, zorder=1)
        for method, precision in sorted({(point.method, point.precision) for point in known}):
            points = [p for p in known if (p.method, p.precision) == (method, precision)]
            x, y, errors = zip(*((p.cost, p.accuracy, p.error) for p in points), strict=True)
            marker = markers[precision if len(precisions) > 1 else method]
            look: dict[str, Any] = {"fmt": marker, "color": methods[method], "label": f"{method}{_in(precision)}"}
            ax.errorbar(x, y, errors, ms=6, capsize=3, zorder=2, **look)
        for precision, found in ungated.items():
            mean = [fmean(values) for values in zip(*found, strict=True)]
            look = {"marker": markers.get(precision, _MARKERS[0]), "label": f"ungated{_in(precision)}"}
            ax.scatter([mean[0]], [mean[1]], 40, "white", edgecolor=GREY, lw=1.5, zorder=2, **look)
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

    words = "; ".join(f"{p.name}{_in(p.precision)} {p.accuracy:.2f}% at {p.cost:.4g}" for p in known)
    return draw(paint, f"Accuracy against {label}: {words}.", width=_SIZE[0], height=_SIZE[1])


@dataclass(frozen=True)
class _Point:
    """A run, or the mean of several that differ in their seed alone: cost; accuracy and its standard error, percent.

    `precision` is "" for float32.
    """

    cost: float
    accuracy: float
    error: float
    name: str
    method: str
    precision: str


def _points(forms: Sequence[tuple[str, Record]], cost: "_Number") -> list[_Point]:
    """Of (precision, run as it is in it), in order of their costs, which are known."""
    found: dict[tuple[str, ...], list[Record]] = {}
    for precision, record in forms:
        named = record.run.removesuffix(f"-{record.seed}")
        key = (named, record.recipe, record.method, record.epochs, record.control, precision)
        found.setdefault(key, []).append(record)
    points = []
    for (named, _, method, _, _, precision), some in found.items():
        accuracy = Estimate.of([record.accuracy for record in some])
        name = f"{named}, {len(some)} seeds" if len(some) > 1 else some[0].run
        mean = fmean(value for record in some if (value := cost(record)) is not None)
        shown = method if some[0].is_gated else "no gates"
        points.append(_Point(mean, 100 * accuracy.mean, 100 * (accuracy.error or 0.0), name, shown, precision))
    return sorted(points, key=lambda point: (point.cost, point.accuracy))


def _forms(record: Record) -> Iterator[tuple[str, Record]]:
    """The run in float32 (""), and as it is in each other precision in which it was timed."""
    yield "", record
    for name, one in record.in_precisions.items():
        if one["accuracy"] is not None and one["ms"] is not None:
            yield (
                name,
                replace(
                    record,
                    accuracy=one["accuracy"],
                    dense_accuracy=one["dense_accuracy"],
                    latency_gated_ms=one["ms"],
                    latency_dense_ms=one["dense_ms"],
                ),
            )


def _in(precision: str) -> str:
    return f" in {precision}" if precision else ""


def _share(record: Record) -> float | None:
    return 100 * record.macs_share


_Number = Callable[[Record], float | None]
_AXES: dict[str, tuple[_Number, _Number, str]] = {
    "MACs": (_share, lambda _: 100.0, "MACs per image, % of the ungated network's"),
    "latency": (lambda r: r.latency_gated_ms, lambda r: r.latency_dense_ms, "ms per image on the engine"),
}
