"""Rows of results beside their controls: means over seeds, differences, and the standard errors of both."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from convgate.errors import RecipeError
from convgate.recipes.library import list_recipes
from convgate.recipes.read import load_recipe
from convgate.runs.record import Record

__all__ = ["GATED", "Estimate", "Group", "groups"]

GATED = ""
"""What the records of a group's row itself are filed under; a control's are filed under its name."""


@dataclass(frozen=True)
class Estimate:
    """The mean of values of several seeds, and its standard error: their deviation / sqrt(how many); None of one value.

    >>> str(Estimate.of([0.90, 0.91, 0.92])), str(Estimate.of([0.9]))
    ('91.00 ± 0.58', '90.00')
    """

    mean: float
    error: float | None
    n: int

    @staticmethod
    def of(values: Sequence[float]) -> "Estimate":
        """That of these values, at least one."""
        error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        return Estimate(fmean(values), error, len(values))

    def __str__(self) -> str:
        """In percent."""
        return f"{100 * self.mean:.2f}" + ("" if self.error is None else f" ± {100 * self.error:.2f}")


@dataclass(frozen=True)
class Group:
    """A row with its controls: runs of one length, on the same images, that differ in seeds and in what is compared.

    Attributes:
        recipe: the row's.
        data: the data set's name.
        measured: "test" or "validation".
        length: epochs of gated training and finish together.
        teacher: see `Record.teacher`.
        budget: what the row was calibrated to.
        options: what tells the row's method from that of other rows of its recipe; empty if there are none.
        records: of the row (under `GATED`) and of each control, one for each seed.

    """

    recipe: str
    data: str
    measured: str
    length: int
    teacher: str
    budget: float | None
    options: Mapping[str, Any]
    records: Mapping[str, tuple[Record, ...]]

    def accuracy(self, which: str) -> Estimate:
        """Of the row or of a control."""
        return Estimate.of([record.accuracy for record in self.records[which]])

    def macs(self, which: str) -> float | None:
        """Mean share of the row's dense MACs; None where the row itself was not run, whose network may be another."""
        row = self.records.get(GATED)
        if not row:
            return None
        return fmean(record.macs_share * record.dense_macs for record in self.records[which]) / row[0].dense_macs

    def gain(self, control: str) -> Estimate | None:
        """How much more accurate the row is than a control, over the seeds that both were run with; None if none."""
        row = {record.seed: record.accuracy for record in self.records.get(GATED, ())}
        pairs = [(row[r.seed], r.accuracy) for r in self.records[control] if r.seed in row]
        return Estimate.of([gated - other for gated, other in pairs]) if pairs else None

    def static(self, which: str) -> Estimate | None:
        """Accuracy with each unit fixed at its majority; None where that was not measured."""
        return self._mean(which, lambda record: record.static_accuracy)

    def static_macs(self, which: str) -> Estimate | None:
        """What is then spent, as a share of the dense MACs."""
        return self._mean(which, lambda record: record.static_macs_share)

    def changing(self, which: str) -> Estimate | None:
        """The share of the gates' units that change from image to image."""
        return self._mean(which, lambda record: record.changing)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The controls that the recipe names and that were not run."""
        if self.recipe not in list_recipes():
            return ()
        try:
            named = load_recipe(self.recipe).controls
        except RecipeError:
            return ()
        return tuple(control for control in named if control not in self.records)

    def _mean(self, which: str, of: Callable[[Record], float | None]) -> Estimate | None:
        values = [value for record in self.records[which] if (value := of(record)) is not None]
        return Estimate.of(values) if values else None


def groups(records: Iterable[Record]) -> list[Group]:
    """The records by recipe, images, length, teacher, budget and the method's options.

    One without a budget stands beside all budgets; a control beside the rows with its options, or else beside all.
    """
    found: dict[tuple[str, str, str, int, str], list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.control, r.seed, r.run)):
        length = sum(int(n) for name, n in re.findall(r"(\w+) (\d+)", record.epochs) if name != "dense")
        key = (record.data, record.control_of or record.recipe, record.measured, length, record.teacher)
        found.setdefault(key, []).append(record)
    return [
        Group(recipe, data, measured, length, teacher, budget, options, _by_control(own, budget))
        for (data, recipe, measured, length, teacher), some in sorted(found.items())
        for options, own in _by_options(some)
        for budget in _budgets(own)
    ]


def _by_options(records: Sequence[Record]) -> list[tuple[dict[str, Any], list[Record]]]:
    """(the options that others of the rows do not have, the rows that have them with their controls), for each set."""
    sets: list[dict[str, Any]] = []
    for record in records:
        if record.control == GATED and record.options not in sets:
            sets.append(record.options)
    if len(sets) < 2:
        return [({}, list(records))]

    def own(record: Record, options: Mapping[str, Any]) -> bool:
        return record.options == options or (record.control != GATED and record.options not in sets)

    def is_shared(name: str, value: Any) -> bool:
        return all(name in other and other[name] == value for other in sets)

    return [
        ({k: v for k, v in options.items() if not is_shared(k, v)}, [r for r in records if own(r, options)])
        for options in sets
    ]


def _budgets(records: Sequence[Record]) -> list[float | None]:
    known = sorted({record.budget for record in records if record.budget is not None}, reverse=True)
    return [*known] or [None]


def _by_control(records: Iterable[Record], budget: float | None) -> dict[str, tuple[Record, ...]]:
    found: dict[str, tuple[Record, ...]] = {}
    for record in records:
        if record.budget in (budget, None):
            found[record.control] = (*found.get(record.control, ()), record)
    return found
