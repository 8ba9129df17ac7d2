"""Figures over several machines and over several group sizes. Each function returns a `Drawing`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convgate.drawing import BLUE, FAINT, VERMILION, Drawing, draw
from convgate.hardware.fragmentation import Grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["added_by_groups", "realised_by_groups", "sweep_curves"]

_SIZE: dict[str, float] = {"width": 440, "height": 300}


def sweep_curves(rows: Sequence[dict[str, Any]]) -> Drawing:
    """Which share of the promised speed-up arrays of several sizes have, by the bandwidth of their memory."""
    widths = sorted({row["dram_bytes_per_cycle"] for row in rows})

    def paint(ax: "Axes") -> None:
        for number, moved in enumerate(widths):
            mine = sorted((r for r in rows if r["dram_bytes_per_cycle"] == moved), key=lambda row: row["rows"])
            ys = [100 * row["realised"] for row in mine]
            alpha = 0.35 + 0.65 * number / max(1, len(widths) - 1)
            ax.plot([row["rows"] for row in mine], ys, "o-", color=BLUE, alpha=alpha, label=f"{moved} bytes per cycle")
        _powers(ax, {row["rows"]: f"{row['rows']}x{row['columns']}" for row in rows})
        ax.set_ylabel("% of what the MACs promise")
        ax.legend(loc="best", fontsize=8)

    best = max(rows, key=lambda row: row["realised"])
    words = (
        f"Share of the promised speed-up by size of the array and bandwidth: at best {best['realised']:.0%}, with "
        f"{best['rows']}x{best['columns']} and {best['dram_bytes_per_cycle']} bytes per cycle."
    )
    return draw(paint, words, **_SIZE)


def added_by_groups(rows: Sequence[Grouped]) -> Drawing:
    """MACs over those of the recorded decisions, by group size: what grouping adds; 1 is a line of its own."""

    def paint(ax: "Axes") -> None:
        ax.axhline(1, color=FAINT, linewidth=1.4, label="as recorded")
        ax.plot([row.group for row in rows], [1 + row.added for row in rows], "o-", color=VERMILION, label="regrouped")
        _powers(ax, {row.group: str(row.group) for row in rows})
        ax.set_ylim(0, 1.1 * max(1 + row.added for row in rows))
        ax.set_xlabel("channels of a group")
        ax.set_ylabel("MACs, regrouped over recorded")
        ax.legend(loc="lower right")

    steps = (f"{1 + row.added:.2f} times the MACs in groups of {row.group}" for row in rows)
    return draw(paint, f"MACs of the recorded decisions in groups: {', '.join(steps)}.", **_SIZE)


def realised_by_groups(rows: Sequence[Grouped]) -> Drawing:
    """What MACs promise and what the machine makes of it, by group size: both fall, but rarely together."""

    def paint(ax: "Axes") -> None:
        groups = [row.group for row in rows]
        ax.axhline(1, color=FAINT, linewidth=1.4, label="the dense network")
        ax.plot(groups, [row.macs_cut for row in rows], "o-", color=VERMILION, label="MACs")
        ax.plot(groups, [row.speedup for row in rows], "s--", color=BLUE, label="cycles")
        _powers(ax, {row.group: str(row.group) for row in rows})
        ax.set_ylim(0, 1.35 * max(1, *(max(row.macs_cut, row.speedup) for row in rows)))
        ax.set_xlabel("channels of a group")
        ax.set_ylabel("dense over gated")
        ax.legend(loc="upper right", fontsize=8)

    steps = (f"{row.realised:.0%} of what the MACs promise in groups of {row.group}" for row in rows)
    return draw(paint, f"Speed-up of the recorded decisions in groups: {', '.join(steps)}.", **_SIZE)


def _powers(ax: "Axes", labels: dict[int, str]) -> None:
    """A logarithmic axis with these places and no others."""
    ax.set_xscale("log")
    places = sorted(labels)
    ax.set_xticks(places, [labels[place] for place in places], minor=False)
    ax.set_xticks([], minor=True)
