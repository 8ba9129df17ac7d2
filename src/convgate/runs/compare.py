"""Several runs in one table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convgate.runs.record import Record, record_of
from convgate.runs.run import Run

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["compare", "comparison"]


def compare(*runs: Run) -> list[Record]:
    """The records of finished runs, to be compared. Raises `RecipeError` for one that is not finished."""
    return [record_of(run) for run in runs]


def comparison(records: Sequence[Record]) -> "Table":
    """A rich table of the runs side by side, in the order given."""
    from rich import box
    from rich.table import Table

    shown = "run, network, method, teacher, seed, epochs, accuracy, dense, MACs, 5 % to 95 %, ms gated, ms dense"
    table = Table(*shown.split(", "), box=box.SIMPLE_HEAD)
    for record in records:
        table.add_row(
            record.run,
            record.network,
            record.method,
            record.teacher or "none",
            str(record.seed),
            f"{record.epochs or 'none'} of {record.full_epochs}" if record.full_epochs else record.epochs,
            f"{record.accuracy:.2%}",
            "" if record.dense_accuracy is None else f"{record.dense_accuracy:.2%}",
            f"{record.macs_share:.2%}",
            f"{record.macs_p5:.1%} to {record.macs_p95:.1%}",
            milliseconds(record.latency_gated_ms),
            milliseconds(record.latency_dense_ms),
        )
    return table


def milliseconds(value: float | None) -> str:
    """The time, or a dash where it was not measured."""
    return "-" if value is None else f"{value:.3f}"
