"""Figures of the whole network on the hardware page. Each function returns a `Drawing`: SVG, with words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from convgate.drawing import BLUE, FAINT, Drawing, draw
from convgate.hardware.report import CAUSES, Report, Simulation
from convgate.hardware.table import TENSOR_NAMES
from convgate.hardware.traffic import TENSORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["counted", "cycles_by_cause", "speedup_by_macs", "traffic_by_tensor"]

_HALF = (440.0, 300.0)
_DOTS = 2000


def speedup_by_macs(simulation: Simulation) -> Drawing:
    """A dot for each image: what the MACs promise, and what the machine makes of it; and the line where both agree."""
    cut, speedup = simulation.macs_cut[:_DOTS], simulation.speedup[:_DOTS]
    room = max(0.02, 0.08 * float(np.ptp(cut)))
    ends = (float(cut.min()) - room, float(cut.max()) + room)
    low, high = min(ends[0], float(speedup.min())), max(ends[1], float(speedup.max()))

    def paint(ax: "Axes") -> None:
        ax.set_xlim(*ends)
        ax.set_ylim(low - 0.05 * (high - low), high + 0.25 * (high - low))  # the legend lies above the line
        ax.plot(ends, ends, color=FAINT, linewidth=1.4, label="all that the MACs promise")
        ax.scatter(cut, speedup, s=9, color=BLUE, alpha=0.5, linewidths=0, label="an image")
        ax.set_xlabel("MACs, dense over gated")
        ax.set_ylabel("cycles, dense over gated")
        ax.legend(loc="upper left")

    words = (
        f"Speed-up against the cut of MACs for {len(cut):,} images: {speedup.mean():.2f} times as fast at "
        f"{cut.mean():.2f} times fewer MACs on average."
    )
    return draw(paint, words, width=_HALF[0], height=_HALF[1])


def cycles_by_cause(simulation: Simulation) -> Drawing:
    """Bars by cause, dense and gated."""
    both = [[report.cycles[cause].sum(1).mean() for cause in CAUSES] for report in _both(simulation)]
    return _pairs("cycles per image", CAUSES, both)


def traffic_by_tensor(simulation: Simulation) -> Drawing:
    """Bars by tensor, dense and gated: bytes to and from memory, by whole bursts."""
    burst = simulation.machine.dram_burst_bytes
    both = [[report.bursts[tensor].sum(1).mean() * burst for tensor in TENSORS] for report in _both(simulation)]
    return _pairs("bytes off chip per image", [TENSOR_NAMES[tensor] for tensor in TENSORS], both)


def _both(simulation: Simulation) -> tuple[Report, Report]:
    return simulation.gated, simulation.dense


def counted(ax: "Axes", unit: str) -> None:
    """An axis of counts, in thousands or millions where they are large."""
    most = ax.get_xlim()[1]
    scale, word = next(((n, word) for n, word in ((1e6, "million "), (1e3, "thousand ")) if most >= 2 * n), (1, ""))
    ax.xaxis.set_major_formatter(lambda number, _: f"{number / scale:g}")
    ax.set_xlabel(word + unit)


def _pairs(unit: str, names: Sequence[str], both: Sequence[Sequence[float]]) -> Drawing:
    gated, dense = both

    def paint(ax: "Axes") -> None:
        places = np.arange(len(names))
        ax.barh(places - 0.19, dense, 0.36, color=FAINT, label="dense")
        ax.barh(places + 0.19, gated, 0.36, color=BLUE, label="gated")
        ax.set_yticks(places, names)
        ax.invert_yaxis()
        counted(ax, unit)
        ax.legend(loc="lower right")

    rows = zip(names, gated, dense, strict=True)
    parts = (f"{name} {before:,.0f} dense, {after:,.0f} gated" for name, after, before in rows)
    return draw(paint, f"{unit.capitalize()}: {'; '.join(parts)}.", width=_HALF[0], height=_HALF[1])
