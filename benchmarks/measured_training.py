"""What README and docs/measured.md say of trained networks, from the records in results/ (`convgate results`)."""

from collections.abc import Sequence
from pathlib import Path

import measured_engine as engine

from convgate.runs.groups import GATED, Group, groups
from convgate.runs.record import Record, read_csv

__all__ = ["ablations", "beside_fixed", "records", "trained"]

Table = tuple[list[str], list[list[str]]]


def records(folder: Path) -> list[Record]:
    """Those of the runs in a folder of results."""
    return [record for path in sorted(folder.glob("*.csv")) for record in read_csv(path)]


def trained(found: Sequence[Record]) -> Table:
    """(headings, lines) of a table with a line for each run that is no control."""
    headings = ["run", "network", "method", "epochs", "test accuracy", "dense", "MACs left", "ms, dense", "ms, gated"]
    headings += ["share of the promised gain", "threads", "commit", "date"]
    return headings, [
        [
            record.run,
            engine.NAMES[record.network],
            record.method,
            record.epochs,
            f"{100 * record.accuracy:.2f} %",
            "-" if record.dense_accuracy is None else f"{100 * record.dense_accuracy:.2f} %",
            f"{100 * record.macs_share:.1f} %",
            *(("-" if ms is None else f"{ms:.3f}") for ms in (record.latency_dense_ms, record.latency_gated_ms)),
            engine.gain(record.latency_dense_ms, record.latency_gated_ms, record.macs_share),
            str(record.latency_threads or "-"),
            record.commit or "not noted",
            str(record.started)[:10],
        ]
        for record in found
        if not record.control
    ]


def ablations(found: Sequence[Record]) -> Table:
    """(headings, lines) of a table with a line for each run, which were all timed."""
    headings = ["run", "test accuracy", "MACs left", "ms, dense", "ms, gated", "share of the promised gain", "commit"]
    return headings, [
        [
            f"`{record.run}`",
            f"{100 * record.accuracy:.2f} %",
            f"{100 * record.macs_share:.1f} %",
            f"{record.latency_dense_ms:.3f}",
            f"{record.latency_gated_ms:.3f}",
            engine.gain(record.latency_dense_ms, record.latency_gated_ms, record.macs_share),
            str(record.commit),
        ]
        for record in found
    ]


def beside_fixed(found: Sequence[Record]) -> Table:
    """(headings, lines) of a table of gated networks beside themselves with each unit fixed, and their dense controls.

    Of each recipe the longest of its runs for which that was measured.
    """
    longest: dict[tuple[str, float | None], Group] = {}
    for group in groups(found):
        if GATED not in group.records or group.static(GATED) is None:
            continue
        key = group.recipe, group.budget
        if key not in longest or longest[key].length < group.length:
            longest[key] = group
    headings = ["recipe", "epochs", "seeds", "MACs left", "accuracy, %", "each unit fixed, %", "at MACs, %"]
    headings += ["units that change, %", "dense before, %", "dense control, %"]
    return headings, [
        [
            f"`{group.recipe}`",
            str(group.length),
            str(len(group.records[GATED])),
            f"{100 * (group.macs(GATED) or 0.0):.1f} %",
            str(group.accuracy(GATED)),
            str(group.static(GATED)),
            str(group.static_macs(GATED)),
            str(group.changing(GATED)),
            ", ".join(sorted({f"{100 * (record.dense_accuracy or 0.0):.2f}" for record in group.records[GATED]})),
            str(group.accuracy("dense")) if "dense" in group.records else "not run",
        ]
        for group in longest.values()
    ]
