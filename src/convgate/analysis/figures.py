"""The figures of the report. Each function returns a `Drawing`: SVG, with its content in words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from convgate.analysis.census import GateCensus
from convgate.analysis.evaluation import Evaluation
from convgate.analysis.sites import SiteCost
from convgate.analysis.spending import Spending
from convgate.analysis.stages import StageCurves
from convgate.drawing import BLUE, FAINT, GREY, INK, ORANGE, VERMILION, Drawing, draw
from convgate.gating import GateKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["by_difficulty", "cost_histogram", "gate_census", "site_bars", "training_curves"]

# Points. Panels stand three in a row, bars and distributions two; see the template.
PANEL = (330.0, 230.0)
HALF = (440.0, 285.0)
# The spread of percentages that an axis shows at least: less would make noise look like a trend.
SPREAD = 20.0


def training_curves(stage: StageCurves, metric: str = "accuracy") -> list[Drawing]:
    """Loss, a metric of the validation images, and where it was logged the share of MACs; none without data."""
    panels = [
        _curves(stage, "Training loss", {"train_loss": ("loss", BLUE)}, percent=False),
        _curves(stage, f"Validation {metric}", {f"validation_{metric}": (metric, BLUE)}),
        _curves(
            stage,
            "MACs, share of dense",
            {"train_macs_ratio": ("in training", ORANGE), "validation_macs_ratio": ("in validation", BLUE)},
            target=stage.target,
        ),
    ]
    return [panel for panel in panels if panel is not None]


def site_bars(costs: Sequence[SiteCost]) -> Drawing:
    """Bars per site: the ungated network's MACs, and over them what the gated one spends on the mean image."""
    names = [cost.name for cost in costs]
    scale, unit = _unit(max(max(c.dense, c.gated) for c in costs))
    total = sum(c.dense for c in costs)

    def paint(ax: "Axes") -> None:
        places = range(len(costs))
        ax.barh(places, [c.dense / scale for c in costs], 0.74, color=FAINT, label="ungated")
        ax.barh(places, [c.gated / scale for c in costs], 0.74, color=BLUE, label="gated, mean image")
        for place, cost in enumerate(costs):
            share = f"{cost.gated / cost.dense:.0%}" if cost.dense else f"{cost.gated / total:.2%} of all"
            ax.annotate(
                share, (max(cost.dense, cost.gated) / scale, place), (4, 0), textcoords="offset points",
                va="center", fontsize=9, color=GREY,
            )  # fmt: skip
        ax.set_xlabel(f"{unit} per image")
        ax.margins(x=0.1)
        _rows(ax, names)
        _legend(ax)

    words = ", ".join(f"{c.name} {c.gated / c.dense:.0%}" for c in costs if c.dense)
    alt = f"Bars of MACs per block. Share of the ungated network's MACs that the gated one spends: {words}."
    return draw(paint, alt, width=HALF[0], height=_height(len(costs)))


def gate_census(gates: Mapping[str, GateCensus], kind: type[GateKind]) -> Drawing | None:
    """Stacked bars per gate of one kind; None if there is no such gate."""
    chosen = {name.removesuffix(f".{kind.word}"): gate for name, gate in gates.items() if isinstance(gate.kind, kind)}
    if not chosen:
        return None
    counts = list(chosen.values())
    what = kind.entries

    def paint(ax: "Axes") -> None:
        left = [0.0] * len(counts)
        for part, label, colour in (
            ("always_on", "always on", BLUE),
            ("input_dependent", "input-dependent", ORANGE),
            ("always_off", "always off", FAINT),
        ):
            widths = [100 * getattr(gate, part) / gate.units for gate in counts]
            ax.barh(range(len(counts)), widths, 0.74, left=left, color=colour, label=label)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        density = [100 * gate.density for gate in counts]
        ax.scatter(
            density, range(len(counts)), 13, "white", edgecolor=INK, lw=1, zorder=3, clip_on=False, label="mean open"
        )  # fmt: skip
        ax.set_xlim(0, 100)
        ax.set_xlabel(f"% of the gate's {what}")
        _rows(ax, [f"{name} ({gate.units})" for name, gate in chosen.items()])
        _legend(ax, columns=4)

    words = "; ".join(
        f"{name}: {g.always_on} always on, {g.input_dependent} input-dependent, {g.always_off} always off of {g.units}"
        for name, g in chosen.items()
    )
    alt = f"Stacked bars of how the {what} of each {kind.word} gate behave. {words}."
    return draw(paint, alt, width=HALF[0], height=_height(len(counts)))


def cost_histogram(spending: Spending, target: float | None) -> Drawing:
    """How many images cost how much, with mean, target, and the range that holds nine images in ten."""
    shares = 100 * spending.shares
    mean, low, high = float(shares.mean()), 100 * spending.percentiles["5"], 100 * spending.percentiles["95"]
    bins = min(40, max(8, round(len(shares) ** 0.5)))
    smallest, greatest = float(shares.min()), float(shares.max())
    # A network that spends the same on every image still gets a bar that can be seen.
    ends = (smallest, greatest) if greatest - smallest > 0.1 else (mean - 1, mean + 1)

    def paint(ax: "Axes") -> None:
        ax.axvspan(low, high, color="#EAF3F9", lw=0, label="5th to 95th percentile")
        ax.hist(shares.numpy(), bins=bins, range=ends, color=BLUE, rwidth=0.9)
        ax.axvline(mean, color=INK, lw=1.6, label=f"mean {mean:.1f}%")
        if target is not None:
            ax.axvline(100 * target, color=VERMILION, lw=1.6, ls=(0, (4, 2)), label=f"target {100 * target:.1f}%")
        ax.set_xlabel("MACs of the image, % of the ungated network's")
        ax.set_ylabel("images")
        ax.grid(axis="y")
        _legend(ax)

    aim = "" if target is None else f", the target {target:.1%}"
    alt = (
        f"Histogram of MACs per image: from {smallest:.1f}% to {greatest:.1f}% of the ungated network's, 90% of the "
        f"images between {low:.1f}% and {high:.1f}%; the mean is {mean:.1f}%{aim}."
    )
    return draw(paint, alt, width=HALF[0], height=HALF[1])


def by_difficulty(difficulty: Tensor, dense: Evaluation, gated: Evaluation) -> list[Drawing]:
    """Accuracy, and the gated network's MACs, of equally many images each from easy to hard.

    Empty where there are too few images or all are equally hard. `difficulty` is float [N].
    """
    bins = min(10, len(difficulty) // 10)
    if bins < 2 or float(difficulty.min()) == float(difficulty.max()) or gated.spending is None:
        return []
    groups = difficulty.argsort(stable=True).tensor_split(bins)
    shares = gated.spending.macs.double() / gated.spending.dense

    def means(values: Tensor) -> list[float]:
        return [100 * float(values.double()[group].mean()) for group in groups]

    x = [float(difficulty[group].mean()) for group in groups]
    accuracy = {"ungated": (means(dense.correct), GREY), "gated": (means(gated.correct), BLUE)}
    cost = {"gated": (means(shares), BLUE)}
    return [
        _against_difficulty(x, accuracy, "Accuracy", "% of images right"),
        _against_difficulty(x, cost, "MACs", "% of the ungated network's"),
    ]


def _curves(
    stage: StageCurves,
    title: str,
    series: Mapping[str, tuple[str, str]],
    *,
    percent: bool = True,
    target: float | None = None,
) -> Drawing | None:
    scale, unit = (100, "%") if percent else (1, "")
    curves = {key: stage.curve(key) for key in series}
    curves = {key: curve for key, curve in curves.items() if curve[0]}
    if not curves:
        return None

    def paint(ax: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        for key, (epochs, values) in curves.items():
            label, colour = series[key]
            marker = "o" if len(values) <= 30 else None
            ax.plot(epochs, [scale * v for v in values], color=colour, marker=marker, ms=3.2, label=label)
        if target is not None:
            ax.axhline(scale * target, color=VERMILION, lw=1.4, ls=(0, (4, 2)), label=f"target {target:.0%}")
        ax.set_title(title + (" (%)" if percent else ""))
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.grid(axis="y")
        ax.margins(y=0.12)
        if len(curves) > 1 or target is not None:
            ax.legend(loc="best")

    ends = "; ".join(f"{series[k][0]} ends at {scale * y[-1]:.3g}{unit}" for k, (_, y) in curves.items())
    return draw(paint, f"{title} over the epochs of stage {stage.name}: {ends}.", width=PANEL[0], height=PANEL[1])


def _against_difficulty(
    x: list[float], series: Mapping[str, tuple[list[float], str]], title: str, label: str
) -> Drawing:
    def paint(ax: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        for name, (values, colour) in series.items():
            ax.plot(x, values, color=colour, marker="o", ms=3.8, label=name)
        ax.set_title(f"{title} ({label})")
        ax.set_xlabel("difficulty of the image")
        ax.grid(axis="y")
        ax.margins(y=0.12)
        low, high = ax.get_ylim()
        room = max(0.0, SPREAD - (high - low)) / 2
        ax.set_ylim(low - room, high + room)
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(series) > 1:
            ax.legend(loc="best")

    words = "; ".join(f"{name} from {v[0]:.1f}% (easiest) to {v[-1]:.1f}% (hardest)" for name, (v, _) in series.items())
    return draw(paint, f"{title} against difficulty: {words}.", width=HALF[0], height=HALF[1])


def _rows(ax: "Axes", names: list[str]) -> None:
    """One named row per bar, the first on top."""
    ax.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=9.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")


def _legend(ax: "Axes", columns: int = 3) -> None:
    """Above the axes, where no data can be, from the figure's left edge."""
    ax.figure.legend(loc="outside upper left", ncols=columns, columnspacing=1.3, handletextpad=0.5)


def _short(name: str) -> str:
    """At most 28 characters, the middle left out."""
    return name if len(name) <= 28 else f"{name[:12]}…{name[-15:]}"


def _height(rows: int) -> float:
    return 74 + rows * min(32, max(15, 220 / rows))


def _unit(greatest: float) -> tuple[float, str]:
    for scale, unit in ((1e9, "billion MACs"), (1e6, "million MACs"), (1e3, "thousand MACs")):
        if greatest >= scale:
            return scale, unit
    return 1, "MACs"
