"""The roofline: what each layer does per cycle and per byte, beside what multipliers and memory allow."""

from typing import TYPE_CHECKING, Any

import numpy as np

from convgate.drawing import BLUE, GREY, INK, Drawing, draw
from convgate.hardware.report import Report, Simulation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["roofline"]


def roofline(simulation: Simulation) -> Drawing:
    """MACs per cycle against MACs per byte from and to memory, of each layer: dense, with an arrow to gated.

    A layer has no dot where it computes nothing or moves nothing from or to memory; how many lack one is said.
    """
    machine = simulation.machine
    gated, dense = _points(simulation, simulation.gated), _points(simulation, simulation.dense)
    every = np.array([*gated.values(), *dense.values()] or [(1.0, 1.0)])

    def paint(ax: "Axes") -> None:
        xs = np.geomspace(every[:, 0].min() / 2, every[:, 0].max() * 2, 100)
        roof = np.minimum(xs * machine.dram_bytes_per_cycle, machine.peak_macs_per_cycle)
        ax.plot(xs, roof, color=INK, linewidth=1.2, label="what multipliers and memory allow")
        ax.scatter(*_columns(dense), s=18, marker="s", color=GREY, label="dense")
        ax.scatter(*_columns(gated), s=18, color=BLUE, label="gated, at an arrow's end")
        _logarithmic(ax.xaxis, "x")
        _logarithmic(ax.yaxis, "y")
        arrow = {"arrowstyle": "->", "color": GREY, "linewidth": 0.7, "shrinkA": 3, "shrinkB": 2}
        for name in (name for name in dense if name in gated):
            ax.annotate("", xy=gated[name], xytext=dense[name], arrowprops=arrow, zorder=0)
        ax.set_xlabel("MACs per byte off chip")
        ax.set_ylabel("MACs per cycle")
        ax.legend(loc="lower right", fontsize=8)

    return draw(paint, _words(simulation, dense, gated), width=440, height=300)


def _words(simulation: Simulation, dense: dict[str, Any], gated: dict[str, Any]) -> str:
    """What is shown, and how many layers are not."""
    layers = [name for name, macs in _macs(simulation.dense).items() if macs]
    closed = [name for name in layers if not _macs(simulation.gated).get(name)]
    shown = dense.keys() | gated.keys()
    left_out = len([name for name in layers if name not in shown])
    words = (
        f"Roofline of {len(shown)} of {len(layers)} layers; the array does at most "
        f"{simulation.machine.peak_macs_per_cycle} MACs per cycle. Left of the bend, a layer may lie above the line: "
        "what it reads was loaded while the layer before computed."
    )
    if left_out:
        words += f" Left out: {left_out} that move nothing from or to memory."
    if closed:
        words += f" Without an arrow: {len(closed)} that are closed for all images."
    return words


def _macs(report: Report) -> dict[str, float]:
    """MACs of an image, by step, but for gate heads."""
    return {line.name: report.macs[:, n].mean() for n, line in enumerate(report.lines) if not line.head}


def _points(simulation: Simulation, report: Report) -> dict[str, tuple[float, float]]:
    """MACs per byte and per cycle of each layer that has both, but for gate heads."""
    found = {}
    moved = np.sum(list(report.bursts.values()), axis=0) * simulation.machine.dram_burst_bytes
    for number, line in enumerate(report.lines):
        macs = report.macs[:, number].mean()
        if macs and not line.head and moved[:, number].any():
            found[line.name] = macs / moved[:, number].mean(), macs / report.by_line[:, number].mean()
    return found


def _logarithmic(axis: Any, name: str) -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    getattr(axis.axes, f"set_{name}scale")("log")
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axis.set_minor_formatter(NullFormatter())


def _columns(points: dict[str, tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points.values()], [y for _, y in points.values()]
