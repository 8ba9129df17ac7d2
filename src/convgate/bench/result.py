"""What a comparison found: rows of timings, and what follows from them."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Result", "Row", "overlap", "realised"]


def realised(dense_ms: float, gated_ms: float, macs_share: float) -> float | None:
    """The share of the promised gain that gating brings: (dense / gated - 1) / (1 / macs_share - 1).

    1: time follows the MACs; 0: gates save no time; negative: they cost time.

    Args:
        dense_ms: the dense network's time in convgate's own engine, so that kernels which are faster than others' do
            not count as a gain of the gates.
        gated_ms: the gated network's time in the same engine.
        macs_share: the MACs of the gated network as a share of the dense one's, gates included.

    Returns:
        The share; None where the MACs promise nothing, `macs_share` being 1 or more.

    >>> realised(10.0, 8.0, 0.5)
    0.25
    """
    return (dense_ms / gated_ms - 1) / (1 / macs_share - 1) if macs_share < 1 else None


@dataclass(frozen=True)
class Row:
    """One engine's timings, in milliseconds per call of one input.

    `n` samples, each the mean over `calls` calls. `difference` is the largest distance of its outputs from PyTorch's
    (a dense row's from the dense model's, the others' from the masked network's), relative to the largest output.
    `accuracy` is the share of labelled images that it answers rightly, if there are any.
    `macs` per image, as the kernels counted them, only of convgate's engine. A row that could not be measured has
    `failed`, the reason, and no numbers.
    """

    engine: str
    label: str
    kind: str
    precision: str = "float32"
    reference: bool = False
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    n: int = 0
    calls: int = 1
    difference: float | None = None
    accuracy: float | None = None
    macs: float | None = None
    note: str = ""
    failed: str = ""

    def timed(self, milliseconds: list[float]) -> dict[str, Any]:
        """The fields that follow from samples."""
        p20, median, p80 = (float(q) for q in np.quantile(milliseconds, [0.2, 0.5, 0.8]))
        return {"median_ms": median, "p20_ms": p20, "p80_ms": p80, "n": len(milliseconds)}


@dataclass(frozen=True)
class Result:
    """The rows, and the work that the networks do: MACs per image, `gated_macs` the mean over the timed inputs."""

    rows: tuple[Row, ...]
    dense_macs: int
    gated_macs: float
    machine: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def macs_ratio(self) -> float:
        """Share of the dense MACs that the gated network spends, gates included."""
        return self.gated_macs / self.dense_macs

    @property
    def best_dense(self) -> Row | None:
        """The fastest dense engine of others in float32; without any, the faster of PyTorch's dense rows."""
        others = [r for r in self.rows if r.median_ms and r.kind == "dense" and r.precision == "float32"]
        others = [r for r in others if not r.engine.startswith("engine")]
        references = [r for r in others if r.reference]
        return min(references or others, key=lambda r: r.median_ms or 0.0, default=None)

    def best_dense_in(self, precision: str) -> Row | None:
        """The fastest dense engine of others among those that are asked for that precision."""
        rows = (r for r in self.rows if r.median_ms and r.kind == "dense" and r.reference and r.precision == precision)
        return min(rows, key=lambda r: r.median_ms or 0.0, default=None)

    def gated_in(self, precision: str) -> Row | None:
        """The gated network in convgate's engine in "bf16" or "int8", if it was measured."""
        return self._measured(f"engine-gated-{precision}")

    def own_dense_in(self, precision: str) -> Row | None:
        """The dense network in convgate's engine in "bf16" or "int8", if it was measured."""
        return self._measured(f"engine-dense-{precision}")

    @property
    def gated(self) -> Row | None:
        """The gated network in convgate's engine, if it was measured."""
        return self._measured("engine-gated")

    @property
    def own_dense(self) -> Row | None:
        """The dense network in convgate's engine, if it was measured."""
        return self._measured("engine-dense")

    @property
    def promised(self) -> float | None:
        """How many times faster the gated network would be if time followed the MACs; None where they save nothing."""
        return 1 / self.macs_ratio if self.macs_ratio < 1 else None

    @property
    def realised(self) -> float | None:
        """The share of the promised gain that gating brings, by the medians; see the function `realised`.

        None where either row was not measured, or where the MACs promise nothing.
        """
        dense, gated = self.own_dense, self.gated
        if dense is None or gated is None or not dense.median_ms or not gated.median_ms:
            return None
        return realised(dense.median_ms, gated.median_ms, self.macs_ratio)

    def pruned_in(self, precision: str) -> Row | None:
        """The network without its gates in convgate's engine in "float32" or "bf16", if it was measured."""
        return self._measured("engine-pruned" if precision == "float32" else f"engine-pruned-{precision}")

    def realised_without_gates(self, precision: str = "float32") -> float | None:
        """The share of the promised gain without gates, of the MACs that are left then; None as in `realised`."""
        pruned = self.pruned_in(precision)
        dense = self.own_dense if precision == "float32" else self.own_dense_in(precision)
        if pruned is None or dense is None or not pruned.macs or not pruned.median_ms or not dense.median_ms:
            return None
        return realised(dense.median_ms, pruned.median_ms, pruned.macs / self.dense_macs)

    @property
    def inconclusive(self) -> bool:
        """Whether the timings of own dense and gated overlap from p20 to p80, so that `realised` may be noise."""
        return self.own_dense is not None and self.gated is not None and overlap(self.own_dense, self.gated)

    @property
    def speedup(self) -> float | None:
        """How many times faster the gated network in convgate's engine is than the best dense engine; medians."""
        return self.speedup_over(self.best_dense) if self.best_dense else None

    def speedup_over(self, row: Row) -> float | None:
        """How many times faster the gated network in convgate's engine is than `row`; medians."""
        if self.gated is None or not self.gated.median_ms or not row.median_ms:
            return None
        return row.median_ms / self.gated.median_ms

    def as_data(self) -> dict[str, Any]:
        """All of it as plain data; what could not be measured is None."""
        best = self.best_dense
        return {
            **self.settings,
            "rows": [self._row(row) for row in self.rows],
            "dense_macs": self.dense_macs,
            "gated_macs": round(self.gated_macs),
            "macs_ratio": self.macs_ratio,
            "mac_reduction": 1 / self.macs_ratio,
            "realised": self.realised,
            "realised_without_gates": self.realised_without_gates(),
            "inconclusive": self.inconclusive,
            "speedup_over_own_dense": self.speedup_over(self.own_dense) if self.own_dense else None,
            "best_dense": best.engine if best else None,
            "speedup_over_best_dense": self.speedup,
            "machine": dict(self.machine),
        }

    def as_csv(self) -> str:
        """A line per row; settings, machine and versions are repeated in each, so that files can be put together."""
        data = self.as_data()
        machine = {key: _in_a_cell(value) for key, value in self.machine.items() if key != "versions"}
        shared = {key: value for key, value in data.items() if key not in ("rows", "machine", "method")}
        versions = dict(self.machine.get("versions", {}))
        lines = [{**row, **shared, **machine, **versions} for row in data["rows"]]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def _measured(self, engine: str) -> Row | None:
        return next((row for row in self.rows if row.engine == engine and row.median_ms), None)

    def _row(self, row: Row) -> dict[str, Any]:
        return {
            "engine": row.engine,
            "label": row.label,
            "kind": row.kind,
            "precision": row.precision,
            "median_ms": row.median_ms,
            "p20_ms": row.p20_ms,
            "p80_ms": row.p80_ms,
            "n": row.n,
            "calls_per_sample": row.calls,
            "gated_speedup": self.speedup_over(row),
            "max_relative_difference": row.difference,
            "accuracy": row.accuracy,
            "macs": row.macs,
            "note": row.note,
            "failed": row.failed or None,
        }


def overlap(a: Row, b: Row) -> bool:
    """Whether the ranges from p20 to p80 of two rows have anything in common."""
    return (a.p20_ms or 0.0) <= (b.p80_ms or 0.0) and (b.p20_ms or 0.0) <= (a.p80_ms or 0.0)


def _in_a_cell(value: Any) -> Any:
    """Several things in one cell: "L1 data 48K, L2 1024K"."""
    if isinstance(value, Mapping):
        value = [f"{name} {one}" for name, one in value.items()]
    return ", ".join(value) if isinstance(value, list) else value
