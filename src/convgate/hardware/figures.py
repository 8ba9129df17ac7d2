"""The figures of the hardware page. Each function returns a `Drawing`: SVG, with its content in words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convgate.drawing import BLUE, FAINT, GREY, INK, ORANGE, VERMILION, Drawing, draw
from convgate.hardware.report import CAUSES, Report, Simulation
from convgate.hardware.traffic import TENSORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cycles_by_cause", "cycles_by_layer", "roofline", "speedup_by_macs", "traffic_by_tensor"]

_HALF = (440.0, 300.0)
_COLOURS = dict(zip(CAUSES, (BLUE, "#56B4E9", GREY, VERMILION, ORANGE, "#CC79A7", "#009E73"), strict=True))
_DOTS = 2000


def speedup_by_macs(simulation: Simulation) -> Drawing:
    """A dot for each image: what the MACs promise, and what the machine makes of it; and the line where both agree."""
    cut, speedup = simulation.macs_cut[:_DOTS], simulation.speedup[:_DOTS]
    low, high = float(min(cut.min(), speedup.min(), 1)), float(max(cut.max(), speedup.max(), 1))

    def paint(ax: "Axes") -> None:
        ends = (low * 0.95, high * 1.05)
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
    return _pairs("bytes off chip per image", TENSORS, both)


def cycles_by_layer(simulation: Simulation) -> Drawing:
    """For each line of the ledger, the gated network's cycles by cause; a mark says what the dense one takes."""
    gated, dense = (_by_layer(report) for report in _both(simulation))
    names = list(gated)

    def paint(ax: "Axes") -> None:
        places, left = np.arange(len(names)), np.zeros(len(names))
        for number, cause in enumerate(CAUSES):
            widths = np.array([gated[name][number] for name in names])
            if widths.any():
                ax.barh(places, widths, 0.74, left=left, color=_COLOURS[cause], label=cause)
            left = left + widths
        known = [(place, sum(dense[name])) for place, name in enumerate(names) if name in dense]
        ax.scatter([n for _, n in known], [p for p, _ in known], s=28, marker="|", color=INK, label="dense")
        ax.set_yticks(places, names, fontsize=8)
        ax.invert_yaxis()
        ax.margins(y=0.01)
        _counted(ax, "cycles per image")
        ax.legend(loc="lower right", fontsize=8)

    most = max(gated, key=lambda name: sum(gated[name]))
    words = f"Cycles of the gated network by layer and cause. Most are spent in {most}."
    return draw(paint, words, width=2 * _HALF[0], height=90 + 15 * len(names))


def roofline(simulation: Simulation) -> Drawing:
    """MACs per cycle against MACs per byte from and to memory, of each layer: dense, with an arrow to gated."""
    machine = simulation.machine

    def points(report: Report) -> dict[str, tuple[float, float]]:
        found = {}
        moved = np.sum(list(report.bursts.values()), axis=0) * machine.dram_burst_bytes
        for number, line in enumerate(report.lines):
            macs = report.macs[:, number].mean()
            if macs and not line.head and moved[:, number].any():
                found[line.name] = macs / moved[:, number].mean(), macs / report.by_line[:, number].mean()
        return found

    gated, dense = (points(report) for report in _both(simulation))
    every = np.array([*gated.values(), *dense.values()] or [(1.0, 1.0)])

    def paint(ax: "Axes") -> None:
        xs = np.geomspace(every[:, 0].min() / 2, every[:, 0].max() * 2, 100)
        roof = np.minimum(xs * machine.dram_bytes_per_cycle, machine.peak_macs_per_cycle)
        ax.plot(xs, roof, color=INK, linewidth=1.2, label="what multipliers and memory allow")
        ax.scatter(*_columns(dense), s=14, color=GREY, label="dense")
        ax.scatter(*_columns(gated), s=14, color=BLUE, label="gated")
        for name in dense.keys() & gated.keys():
            (x, y), (to_x, to_y) = dense[name], gated[name]
            ax.plot((x, to_x), (y, to_y), color=FAINT, linewidth=0.8, zorder=0)
        _logarithmic(ax.xaxis, "x")
        _logarithmic(ax.yaxis, "y")
        ax.set_xlabel("MACs per byte off chip")
        ax.set_ylabel("MACs per cycle")
        ax.legend(loc="lower right", fontsize=8)

    words = (
        f"Roofline of {len(gated)} layers whose data come from memory; the array does at most "
        f"{machine.peak_macs_per_cycle} MACs per cycle. Left of the bend, a layer may lie above the line: what it "
        "reads was loaded while the layer before computed."
    )
    return draw(paint, words, width=_HALF[0], height=_HALF[1])


def _logarithmic(axis: Any, name: str) -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    getattr(axis.axes, f"set_{name}scale")("log")
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axis.set_minor_formatter(NullFormatter())


def _both(simulation: Simulation) -> tuple[Report, Report]:
    return simulation.gated, simulation.dense


def _counted(ax: "Axes", unit: str) -> None:
    """An axis of counts, in thousands or millions where they are large."""
    most = ax.get_xlim()[1]
    scale, word = next(((n, word) for n, word in ((1e6, "million "), (1e3, "thousand ")) if most >= 2 * n), (1, ""))
    ax.xaxis.set_major_formatter(lambda number, _: f"{number / scale:g}")
    ax.set_xlabel(word + unit)


def _columns(points: dict[str, tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points.values()], [y for _, y in points.values()]


def _by_layer(report: Report) -> dict[str, list[float]]:
    """Cycles by cause for each layer of the ledger; heads, and what is on no line, together."""
    found: dict[str, list[float]] = {}
    for number, line in enumerate(report.lines):
        name = "all gate heads" if line.head else line.layer or "vector unit"
        causes = [report.cycles[cause][:, number].mean() for cause in CAUSES]
        found[name] = [a + b for a, b in zip(found.get(name, [0.0] * len(CAUSES)), causes, strict=True)]
    return found


def _pairs(unit: str, names: Sequence[str], both: Sequence[Sequence[float]]) -> Drawing:
    gated, dense = both

    def paint(ax: "Axes") -> None:
        places = np.arange(len(names))
        ax.barh(places - 0.19, dense, 0.36, color=FAINT, label="dense")
        ax.barh(places + 0.19, gated, 0.36, color=BLUE, label="gated")
        ax.set_yticks(places, names)
        ax.invert_yaxis()
        _counted(ax, unit)
        ax.legend(loc="lower right")

    rows = zip(names, gated, dense, strict=True)
    parts = (f"{name} {before:,.0f} dense, {after:,.0f} gated" for name, after, before in rows)
    return draw(paint, f"{unit.capitalize()}: {'; '.join(parts)}.", width=_HALF[0], height=_HALF[1])
