"""One look for all figures: colours that colour-blind readers can tell apart, quiet axes, text as text."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BLUE", "FAINT", "GREY", "INK", "ORANGE", "VERMILION", "Drawing", "draw"]

# Okabe and Ito's colours, which keep apart under the common kinds of colour blindness, and two greys.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
INK, GREY, FAINT = "#24292F", "#5C646E", "#D5D9DF"

_FONT = "DejaVu Sans"
_READERS_FONTS = f"system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, '{_FONT}', sans-serif"
_STYLE: dict[Any, Any] = {
    "font.family": _FONT,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelcolor": GREY,
    "axes.labelsize": 10,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#EBEDF0",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": GREY,
    "ytick.labelcolor": GREY,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "convgate",
}


@dataclass(frozen=True)
class Drawing:
    """A figure as an SVG document, and its content in words for readers who cannot see it."""

    svg: str
    alt: str


def draw(paint: Callable[["Axes"], None], alt: str, *, width: float, height: float) -> Drawing:
    """What `paint` draws on one pair of axes. `width` and `height` are in points, at which text has size 10.

    The same content gives the same bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width / 72, height / 72))
        paint(figure.subplots())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    # From the root on: the prologue only names a document type by its address. The layout is that of the font that
    # matplotlib brings along, which is wider than those of the reader's system.
    svg = text.getvalue()
    return Drawing(svg[svg.index("<svg") :].replace(f"'{_FONT}'", _READERS_FONTS), alt)
