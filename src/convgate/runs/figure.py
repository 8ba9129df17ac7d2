"""The picture of several runs: accuracy against MACs, and against latency where it was measured."""

from collections.abc import Callable, Sequence
from itertools import cycle
from operator import itemgetter
from typing import TYPE_CHECKING

from convgate.drawing import BLUE, FAINT, GREY, INK, ORANGE, VERMILION, Drawing, draw
from convgate.runs.record import Record
from convgate.runs.sweep import pareto

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["against"]

_SIZE = (440.0, 300.0)
_LOOKS = ((BLUE, "o"), (ORANGE, "s"), (VERMILION, "^"), (INK, "D"), (GREY, "v"))


def against(records: Sequence[Record], axis: str) -> Drawing | None:
    """Accuracy against "MACs" or "latency"; None if fewer than two points are known.

    A colour for each method, a name for each run; the points that none beats are joined.
    """
    cost, dense, label = _AXES[axis]
    known = [(value, 100 * r.accuracy, r) for r in records if (value := cost(r)) is not None]
    known.sort(key=itemgetter(0, 1))
    if len(known) < 2:
        return None
    front = [(value, 100 * r.accuracy) for r in pareto(records, cost) if (value := cost(r)) is not None]
    ungated = [(x, 100 * r.dense_accuracy) for r in records if r.dense_accuracy and (x := dense(r)) is not None]
    methods = sorted({r.method for _, _, r in known})

    def paint(ax: "Axes") -> None:
        ax.plot([x for x, _ in front], [y for _, y in front], color=FAINT, zorder=1)
        for method, (colour, marker) in zip(methods, cycle(_LOOKS), strict=False):
            points = [(x, y) for x, y, r in known if r.method == method]
            ax.scatter(
                [x for x, _ in points], [y for _, y in points], 34, colour, marker=marker, zorder=2, label=method
            )
        if ungated:
            mean = [sum(values) / len(ungated) for values in zip(*ungated, strict=True)]
            ax.scatter([mean[0]], [mean[1]], 40, "white", edgecolor=GREY, lw=1.5, zorder=2, label="ungated")
        middle = sum(ax.get_xlim()) / 2
        for x, y, r in known:
            # Towards the middle, where there is room.
            side, place = (-7, "right") if x > middle else (7, "left")
            ax.annotate(r.run, (x, y), (side, 0), textcoords="offset points", ha=place, va="center", color=GREY, size=8)
        ax.set_xlabel(label)
        ax.set_title("Accuracy on the test images (%)")
        ax.grid(axis="y")
        ax.margins(0.1)
        ax.legend(loc="lower right")

    words = "; ".join(f"{r.run} {accuracy:.2f}% at {value:.4g}" for value, accuracy, r in known)
    return draw(paint, f"Accuracy against {label}: {words}.", width=_SIZE[0], height=_SIZE[1])


def _share(record: Record) -> float | None:
    return 100 * record.macs_share


_Number = Callable[[Record], float | None]
_AXES: dict[str, tuple[_Number, _Number, str]] = {
    "MACs": (_share, lambda _: 100.0, "MACs per image, % of the ungated network's"),
    "latency": (lambda r: r.latency_gated_ms, lambda r: r.latency_dense_ms, "ms per image on the engine"),
}
