"""Energy: actions times a table of picojoules per action, each table with its source."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convgate.errors import InputError
from convgate.hardware.named import list_named, read_named

__all__ = ["ACTIONS", "EnergyTable", "energy_table", "list_energy_tables"]

ACTIONS: Mapping[str, str] = {
    "mac": "multiply-accumulates",
    "register": "words that processing elements hand on: an input and a sum for each of their MACs",
    "input_buffer_read": "words of maps sent into the array",
    "input_buffer_write": "words of maps written into the input or map buffer",
    "weight_buffer_read": "words of weights sent into the array",
    "weight_buffer_write": "words of weights written into their buffer",
    "sum_buffer_read": "sums that are added to, or sent on",
    "sum_buffer_write": "sums that leave the array",
    "dram_read": "bytes from memory, by whole bursts",
    "dram_write": "bytes to memory, by whole bursts",
}
"""What is counted, and in which unit."""


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules per action; `source` says where each figure comes from. Actions without one are not in the sum."""

    name: str
    source: str
    picojoules: Mapping[str, float]

    @property
    def missing(self) -> tuple[str, ...]:
        """The actions that it has no figure for, so that they are in no sum."""
        return tuple(name for name in ACTIONS if name not in self.picojoules)

    def energy(self, actions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Picojoules by action, of those that the table has: float64, as the counts are shaped.

        >>> table = EnergyTable("mine", "a guess", {"mac": 0.3})
        >>> table.energy({"mac": np.array([10])})
        {'mac': array([3.])}
        """
        return {name: counts * self.picojoules[name] for name, counts in actions.items() if name in self.picojoules}


def list_energy_tables() -> tuple[str, ...]:
    """The tables that come with convgate.

    >>> list_energy_tables()
    ('timeloop-45nm',)
    """
    return list_named("tables")


def energy_table(name: str | Path) -> EnergyTable:
    """A table by name, or from a YAML file with `name`, `source` and `picojoules` by action.

    Raises `InputError` for an unknown name and for a file that is not such a table.
    """
    data = read_named(name, "tables", "energy table")
    if not isinstance(data, Mapping) or set(data) != {"name", "source", "picojoules"}:
        raise InputError(f"{name}: an energy table has a name, its source and picojoules, and nothing else")
    figures = data["picojoules"]
    wrong = not isinstance(figures, Mapping) or [
        key
        for key, value in figures.items()
        if key not in ACTIONS or isinstance(value, bool) or not isinstance(value, int | float) or value < 0
    ]
    if wrong:
        raise InputError(f"{name}: picojoules are numbers, at least 0, for some of {', '.join(ACTIONS)}")
    return EnergyTable(str(data["name"]), str(data["source"]), dict(figures))
