"""A comparison for people: a table, sentences, a figure; and the files of a run."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convgate.bench.result import Result, Row, overlap
from convgate.drawing import BLUE, FAINT, GREY, ORANGE, Drawing, draw
from convgate.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["figure", "sentences", "table", "write"]


def table(result: Result) -> Any:
    """A rich table, a line per row, in the order in which they were built; rows that failed say why."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    lines = Table(box=box.SIMPLE_HEAD)
    lines.add_column("")
    judged = [f"right of {result.settings['labelled']}"] if result.settings.get("labelled") else []
    headings = ("median ms", "MACs", "p20 - p80", "n", "gated is faster by", "difference", *judged)
    for heading in headings:
        lines.add_column(heading, justify="right")
    lines.add_column("")
    for row in result.rows:
        if row.failed:
            lines.add_row(row.label, *("-" for _ in headings), escape(row.failed))
            continue
        faster = result.speedup_over(row)
        lines.add_row(
            row.label,
            f"{row.median_ms:.3f}",
            _macs(result, row),
            f"{row.p20_ms:.3f} - {row.p80_ms:.3f}",
            str(row.n),
            f"{faster:.2f}x" if faster else "-",
            f"{row.difference:.1e}",
            *(f"{row.accuracy:.1%}" if row.accuracy is not None else "-" for _ in judged),
            escape(row.note),
        )
    return lines


def _macs(result: Result, row: Row) -> str:
    """What an image costs: of a gated network as the engine counted it; what only masks computes all."""
    macs = result.dense_macs if row.kind == "dense" else row.macs
    return "-" if macs is None else f"{macs / 1e6:,.1f} M"


def sentences(result: Result) -> str:
    """What follows from the rows, and on what machine."""
    machine = result.machine
    versions = ", ".join(f"{name} {version or 'absent'}" for name, version in machine["versions"].items())
    ratio = result.macs_ratio
    cut = f"{1 / ratio:.2f} times fewer" if ratio < 1 else "more than the dense network's; no engine could gain"
    lines = [
        _gain(result),
        *(line for precision in ("float32", "bf16") for line in _without_gates(precision, result)),
        f"MACs: {result.gated_macs:,.0f} of {result.dense_macs:,} per image, {ratio:.1%}: {cut}",
        _against_others(result),
        *(line for precision in ("bf16", "int8") for line in _in(precision, result)),
        _inputs(result),
        *_disturbed(result),
        f"{machine['processor']}, {machine['cores']} core(s), {machine['instruction_set']}, "
        f"{machine['threads']} thread(s), batch {result.settings.get('batch', 1)}; {versions}",
    ]
    return "\n".join(lines)


def _inputs(result: Result) -> str:
    """What was timed, since gates decide by the image."""
    number = result.settings.get("inputs", 0) * result.settings.get("batch", 1)
    if result.settings.get("images", "random") == "random":
        return f"timed on {number} random images; gates decide otherwise on real ones: --images FOLDER times those"
    return f"timed on {number} photographs of {result.settings['images']}"


def _disturbed(result: Result) -> list[str]:
    """Of a virtual machine: in how many rounds its cores were far from each other, where that was asked."""
    near, number = result.machine.get("near_ns"), result.machine.get("rounds_left_out", 0)
    lines = []
    if number:
        lines += [f"left out: {number} round(s) at whose end threads took longer than {near:g} ns to share work out"]
    if result.machine.get("impatient"):
        lines += [f"for minutes the threads took longer than {near:g} ns for that; later rounds count all the same"]
    return lines


def _gain(result: Result) -> str:
    """What gating brings in convgate's own engine: the share of the promised gain first."""
    dense, gated = result.own_dense, result.gated
    if dense is None or gated is None:
        return "no gain to tell: it takes the engine's dense and gated rows"
    faster = result.speedup_over(dense)
    ours = f"gated, the engine is {faster:.2f} times as fast as dense"
    if result.realised is None:
        text = f"{ours}, and the MACs promise no gain"
    else:
        text = f"{result.realised:.0%} of the promised gain: {ours}, and the MACs promise {result.promised:.2f} times"
    if result.inconclusive:
        text += f"; inconclusive: {_ranges(dense, gated)}"
    return text


def _without_gates(precision: str, result: Result) -> list[str]:
    """What the pruned network brings, whose closed channels are taken out, where it was timed."""
    row = result.pruned_in(precision)
    own = result.own_dense if precision == "float32" else result.own_dense_in(precision)
    share = result.realised_without_gates(precision)
    if row is None or own is None or share is None or not row.median_ms or not row.macs or not own.median_ms:
        return []
    text = (
        f"without gates (pruned.cgm, {row.macs / result.dense_macs:.1%} of the MACs, {precision}): {share:.0%} of the "
        f"promised gain, {own.median_ms / row.median_ms:.2f} times as fast as dense"
    )
    return [text + (f"; inconclusive: {_ranges(own, row)}" if overlap(own, row) else "")]


def _ranges(dense: Row, other: Row) -> str:
    return (
        f"p20 to p80 of dense ({dense.p20_ms:.3f} - {dense.p80_ms:.3f} ms) and {other.kind} ({other.p20_ms:.3f} - "
        f"{other.p80_ms:.3f} ms) overlap; time for longer, or on a quiet machine"
    )


def _against_others(result: Result) -> str:
    best = result.best_dense
    if best is None or best.median_ms is None or result.gated is None or result.speedup is None:
        return "no speed-up over others to tell: it takes the gated engine and a dense float32 engine of others"
    text = f"{result.speedup:.2f} times as fast as the best dense float32 engine of others ({best.label})"
    faster = [r.label for r in result.rows if r.median_ms and r.kind == "dense" and r.median_ms < best.median_ms]
    return text + (f"; faster still than that: {', '.join(faster)}" if faster else "")


def _in(precision: str, result: Result) -> list[str]:
    """What gating brings in a precision, against our own dense engine and others', where these were timed."""
    gated, own, best = result.gated_in(precision), result.own_dense_in(precision), result.best_dense_in(precision)
    if gated is None or not gated.median_ms:
        return []
    against = [
        f"{row.median_ms / gated.median_ms:.2f} times as fast as {label}"
        for row, label in (
            (own, "dense"),
            (best, f"the best dense {precision} engine of others ({best.label if best else ''})"),
        )
        if row is not None and row.median_ms
    ]
    return [f"in {precision} the gated engine is {' and '.join(against)}"] if against else []


def figure(result: Result) -> Drawing:
    """Bars of the medians with whiskers from p20 to p80; dense rows grey or orange (ours), gated ones blue."""
    rows = [row for row in result.rows if row.median_ms]

    def paint(ax: "Axes") -> None:
        places = range(len(rows))
        medians = [row.median_ms or 0.0 for row in rows]
        below = [(row.median_ms or 0.0) - (row.p20_ms or 0.0) for row in rows]
        above = [(row.p80_ms or 0.0) - (row.median_ms or 0.0) for row in rows]
        ax.barh(places, medians, 0.7, color=[_colour(row) for row in rows], xerr=[below, above], ecolor=GREY, capsize=3)
        for place, row in zip(places, rows, strict=True):
            ax.annotate(
                f"{row.median_ms:.3g}", (row.p80_ms or 0.0, place), (6, 0), textcoords="offset points", va="center",
                fontsize=9, color=GREY,
            )  # fmt: skip
        ax.set_yticks(places, [row.label for row in rows])
        ax.invert_yaxis()
        ax.margins(x=0.12)
        ax.set_xlabel("milliseconds per call: median, p20 to p80")
        ax.set_title(_title(result))

    alt = "; ".join(f"{row.label} {row.median_ms:.3g} ms" for row in rows)
    return draw(paint, alt, width=520, height=70 + 26 * max(1, len(rows)))


def write(result: Result, folder: Path) -> list[Path]:
    """Write the result to `folder` as CSV, JSON and SVG, under a name made of its settings; returns their paths."""
    settings = result.settings
    words = [settings.get("model", "model"), settings["method"]["name"], f"macs{result.macs_ratio:.2f}"]
    words += [f"batch{settings.get('batch', 1)}", f"threads{result.machine['threads']}"]
    stem = re.sub(r"[^\w.-]+", "_", "-".join(str(word) for word in words)).strip("_")
    texts = {"csv": result.as_csv(), "json": json.dumps(result.as_data(), indent=2) + "\n", "svg": figure(result).svg}
    paths = [folder / f"{stem}.{kind}" for kind in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def _title(result: Result) -> str:
    threads, batch = result.machine["threads"], result.settings.get("batch", 1)
    return (
        f"{result.settings.get('model', 'model')}, {result.settings['method']['name']}, {result.macs_ratio:.0%} of the "
        f"MACs, {threads} thread(s), batch {batch}"
    )


def _colour(row: Row) -> str:
    if row.kind != "dense":
        return BLUE
    return ORANGE if row.engine.startswith("engine") else FAINT
