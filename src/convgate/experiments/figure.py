"""The picture of a sweep: accuracy against MACs, and against latency where it was measured."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from convgate.analysis.style import BLUE, FAINT, GREY, Drawing, draw
from convgate.experiments.record import Record
from convgate.experiments.sweep import pareto

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["against"]

_SIZE = (440.0, 300.0)


def against(records: Sequence[Record], axis: str) -> Drawing | None:
    """Accuracy against "MACs" or "latency", the points that none beats joined; None if fewer than two are known."""
    cost, dense, label = _AXES[axis]
    points = [(value, 100 * r.accuracy) for r in records if (value := cost(r)) is not None]
    if len(points) < 2:
        return None
    front = [(value, 100 * r.accuracy) for r in pareto(records, cost) if (value := cost(r)) is not None]
    ungated = [(x, 100 * r.dense_accuracy) for r in records if r.dense_accuracy and (x := dense(r)) is not None]

    def paint(ax: "Axes") -> None:
        ax.plot([x for x, _ in front], [y for _, y in front], color=FAINT, zorder=1)
        ax.scatter([x for x, _ in points], [y for _, y in points], 34, BLUE, zorder=2, label="gated")
        if ungated:
            mean = [sum(values) / len(ungated) for values in zip(*ungated, strict=True)]
            ax.scatter([mean[0]], [mean[1]], 40, "white", edgecolor=GREY, lw=1.5, zorder=2, label="ungated")
        ax.set_xlabel(label)
        ax.set_title("Accuracy on the test images (%)")
        ax.grid(axis="y")
        ax.margins(0.1)
        ax.legend(loc="lower right")

    words = "; ".join(f"{accuracy:.2f}% at {value:.4g}" for value, accuracy in sorted(points))
    return draw(paint, f"Accuracy against {label}: {words}.", width=_SIZE[0], height=_SIZE[1])


def _share(record: Record) -> float | None:
    return 100 * record.macs_share


_Number = Callable[[Record], float | None]
_AXES: dict[str, tuple[_Number, _Number, str]] = {
    "MACs": (_share, lambda _: 100.0, "MACs per image, % of the ungated network's"),
    "latency": (lambda r: r.latency_gated_ms, lambda r: r.latency_dense_ms, "ms per image on the engine"),
}
