"""What the benchmarks have in common: quantiles, the machine's description, and where records go."""

import csv
import io
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convgate.files import write_text
from convgate.timing.machine import silicon

RESULTS = Path(__file__).parent / "results"


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median, p20 and p80 of timings, in seconds."""
    p20, median, p80 = np.quantile(seconds, [0.2, 0.5, 0.8])
    return {"n": len(seconds), "median_s": float(median), "p20_s": float(p20), "p80_s": float(p80)}


def machine() -> dict[str, Any]:
    """Processor, instruction set, threads and versions."""
    return {
        **silicon(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }


def build() -> dict[str, str]:
    """Which build is measured, and when: the commit, with "+" if files differ from it, and the date (UTC)."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=RESULTS.parent, capture_output=True, text=True
    )
    return {"commit": told.stdout.strip() or "unknown", "date": datetime.now(UTC).date().isoformat()}


def record(name: str, content: dict[str, Any]) -> Path:
    """Write a record as JSON, with the machine, the commit and today's date, and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    write_text(path, json.dumps({**content, "machine": machine(), **build()}, indent=2) + "\n")
    return path


def rows_of(table: Path) -> list[dict[str, str]]:
    """The rows of a table, a CSV file; none if there is no such file."""
    if not table.is_file():
        return []
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def put(table: Path, found: Sequence[Mapping[str, object]], setting: Sequence[str]) -> None:
    """Put rows into a table, in the place of those whose columns `setting` say the same.

    Columns that only older rows have come last; the file is written whole or not at all.
    """

    def of(row: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(row[key]) for key in setting)

    measured = {of(row) for row in found}
    _write(table, [*(row for row in rows_of(table) if of(row) not in measured), *found])


def add_row(table: Path, row: Mapping[str, object]) -> None:
    """Append a row to a table, which is made if it is not there. The file is written whole or not at all."""
    _write(table, [*rows_of(table), row])


def _write(table: Path, rows: Sequence[Mapping[str, object]]) -> None:
    columns = dict.fromkeys(column for row in reversed(rows) for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, text.getvalue())
