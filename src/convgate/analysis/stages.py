"""A training stage as the report shows it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["StageCurves"]


@dataclass(frozen=True)
class StageCurves:
    """What was logged per epoch of one stage of training.

    A row has `epoch`, `train_loss`, `validation_accuracy`, and in a gated stage `train_macs_ratio` and
    `validation_macs_ratio`; any of them may be missing or NaN. `target` is the budget as a share of the dense MACs,
    or None in a stage without gates.
    """

    name: str
    rows: Sequence[Mapping[str, float]]
    target: float | None = None

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """(epochs, values) of the rows that hold a finite `key`; the row's number where the epoch is missing."""
        points = [
            (float(row.get("epoch", number)), float(row[key]))
            for number, row in enumerate(self.rows, start=1)
            if row.get(key) is not None and math.isfinite(row[key])
        ]
        return [x for x, _ in points], [y for _, y in points]
