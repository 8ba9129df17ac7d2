"""The figure of cycles by layer and cause, dense above gated."""

from typing import TYPE_CHECKING, Any

import numpy as np

from convgate.drawing import BLUE, GREY, INK, ORANGE, VERMILION, Drawing, draw
from convgate.hardware.figures import counted
from convgate.hardware.report import CAUSES, Report, Simulation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cycles_by_layer"]

_COLOURS = dict(zip(CAUSES, (BLUE, "#56B4E9", GREY, VERMILION, ORANGE, "#CC79A7", "#009E73"), strict=True))
_HATCH = "//////"
_NONE = [0.0] * len(CAUSES)


def cycles_by_layer(simulation: Simulation) -> Drawing:
    """For each line of the ledger two bars of cycles by cause: the dense network's, hatched, above the gated one's."""
    gated, dense = _by_layer(simulation.gated), _by_layer(simulation.dense)
    names = list(gated)

    def paint(ax: "Axes") -> None:
        from matplotlib.patches import Patch

        shown = [
            cause
            for cause, used in zip(CAUSES, np.any([*gated.values(), *dense.values()], axis=0), strict=True)
            if used
        ]
        places = np.arange(len(names))
        _bars(ax, places - 0.19, [dense.get(name, _NONE) for name in names], dense=True)
        _bars(ax, places + 0.19, [gated[name] for name in names], dense=False)
        ax.set_yticks(places, names, fontsize=8)
        ax.invert_yaxis()
        ax.margins(y=0.01)
        counted(ax, "cycles per image")
        keys = [Patch(facecolor=_COLOURS[cause], label=cause) for cause in shown]
        keys.append(Patch(**_look(INK, dense=True), label="above, hatched: dense"))
        keys.append(Patch(**_look(INK, dense=False), label="below: gated"))
        ax.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=5, fontsize=8, borderaxespad=0.3)

    most = max(gated, key=lambda name: sum(gated[name]))
    words = f"Cycles by layer and cause, the dense network's above the gated one's, which spends most in {most}."
    return draw(paint, words, width=880, height=110 + 22 * len(names))


def _bars(ax: "Axes", places: np.ndarray, causes: list[list[float]], *, dense: bool) -> None:
    """A bar for each place, cause by cause."""
    left = np.zeros(len(places))
    for cause, widths in zip(CAUSES, np.array(causes).T, strict=True):
        ax.barh(places, widths, 0.36, left=left, **_look(_COLOURS[cause], dense=dense))
        left = left + widths


def _look(colour: str, *, dense: bool) -> dict[str, Any]:
    """Of a bar: full, or hatched on white, which no pale colour of another cause is mistaken for."""
    if dense:
        return {"facecolor": "white", "edgecolor": colour, "hatch": _HATCH, "linewidth": 0.6}
    return {"facecolor": colour, "linewidth": 0}


def _by_layer(report: Report) -> dict[str, list[float]]:
    """Cycles by cause for each layer of the ledger; heads, and what is on no line, together."""
    found: dict[str, list[float]] = {}
    for number, line in enumerate(report.lines):
        name = "all gate heads" if line.head else line.layer or "vector unit"
        causes = [report.cycles[cause][:, number].mean() for cause in CAUSES]
        found[name] = [a + b for a, b in zip(found.get(name, _NONE), causes, strict=True)]
    return found
