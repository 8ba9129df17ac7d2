"""What a simulation found: cycles by cause, traffic by tensor, actions, for N images and each line."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from convgate.hardware.accelerator import Accelerator
from convgate.hardware.energy import EnergyTable

__all__ = ["CAUSES", "Line", "Report", "Simulation", "Spread"]

CAUSES = (
    "compute",
    "weight loading",
    "fill and drain",
    "memory",
    "waiting for decisions",
    "index",
    "vector",
)
"""Why a cycle passes: positions are sent; they wait for weights; sums are not out yet; the bus is busy; a gate is not
decided yet; the index module has no index yet; the vector unit works."""


@dataclass(frozen=True)
class Line:
    """A step: its name, the ledger's line of its MACs, whether it serves decisions alone, what it is."""

    name: str
    layer: str
    head: bool
    kind: str


@dataclass(frozen=True)
class Spread:
    """Mean and percentiles over images."""

    mean: float
    p5: float
    p95: float

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Spread":
        """Of numbers [N]."""
        low, high = np.percentile(numbers, (5, 95))
        return cls(float(numbers.mean()), float(low), float(high))


@dataclass(frozen=True, eq=False)
class Report:
    """One network on one machine; all arrays are int64 [N, lines].

    `cycles` by cause of `CAUSES`, `words` and `bursts` by tensor, `actions` by kind of `convgate.hardware.energy`;
    `mask_bits` are those that the index module reads, on chip.
    """

    lines: tuple[Line, ...]
    macs: np.ndarray
    cycles: Mapping[str, np.ndarray]
    words: Mapping[str, np.ndarray]
    bursts: Mapping[str, np.ndarray]
    actions: Mapping[str, np.ndarray]
    mask_bits: np.ndarray

    @cached_property
    def by_line(self) -> np.ndarray:
        """All cycles: int64 [N, lines]."""
        total = sum(self.cycles.values())
        return np.asarray(total, np.int64)

    @cached_property
    def total(self) -> np.ndarray:
        """Cycles of each image: int64 [N]."""
        return self.by_line.sum(1)

    @cached_property
    def heads(self) -> np.ndarray:
        """Which lines serve decisions alone: bool [lines]."""
        return np.array([line.head for line in self.lines], bool)

    def mapped(self, multipliers: int) -> np.ndarray:
        """The share of the multipliers that work while positions are sent: float64 [N].

        What is missing to 1 is lost to folds that open channels do not fill, and to completions of a few columns.
        """
        busy = self.cycles["compute"].sum(1) * multipliers
        return self.macs.sum(1) / np.maximum(busy, 1)

    def by_layer(self) -> dict[str, np.ndarray]:
        """MACs by line of the ledger: int64 [N] each."""
        found: dict[str, np.ndarray] = {}
        for number, line in enumerate(self.lines):
            if line.layer:
                found[line.layer] = found.get(line.layer, 0) + self.macs[:, number]
        return found


@dataclass(frozen=True, eq=False)
class Simulation:
    """A gated network and the same without its gates (`dense`, for one image) on a machine, for N images."""

    machine: Accelerator
    gated: Report
    dense: Report
    energy: EnergyTable

    @property
    def images(self) -> int:
        """How many images."""
        return len(self.gated.macs)

    @cached_property
    def speedup(self) -> np.ndarray:
        """Cycles of the dense network over those of the gated one: float64 [N]."""
        return self.dense.total[0] / self.gated.total

    @cached_property
    def macs_cut(self) -> np.ndarray:
        """MACs of the dense network over those of the gated one, gates included: float64 [N]."""
        return self.dense.macs.sum() / self.gated.macs.sum(1)

    @cached_property
    def realised(self) -> np.ndarray:
        """The speed-up over what the MACs promise: float64 [N]."""
        return self.speedup / self.macs_cut

    def milliseconds(self, cycles: float) -> float:
        """At the machine's frequency."""
        return cycles / self.machine.frequency_mhz / 1e3

    def picojoules(self, report: Report) -> dict[str, np.ndarray]:
        """Energy by action, float64 [N]."""
        return self.energy.energy({name: counts.sum(1) for name, counts in report.actions.items()})

    def as_data(self) -> dict[str, Any]:
        """The whole as plain data: units are in the names."""
        from convgate.hardware.data import as_data

        return as_data(self)
