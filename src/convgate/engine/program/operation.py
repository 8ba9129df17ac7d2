"""What every operation of a program has, and what its fields may name.

What a field names (a value, an array, a gate, a layer) is said once, by its type: `ValueName`, `ArrayName`, `GateName`,
`LayerName`. `convgate.engine.program.references` reads it off, for code that checks, numbers, cuts or prints programs.
"""

from dataclasses import dataclass
from typing import Annotated

__all__ = ["ArrayName", "GateName", "LayerName", "MaskName", "Operation", "ValueName"]

ValueName = Annotated[str, "value"]
"""The name of a value."""

ArrayName = Annotated[str, "array"]
"""The name of an array, or "" for none."""

GateName = Annotated[str, "gate"]
"""The name of a gate, or "" for none."""

MaskName = Annotated[str, "mask"]
"""The name of a gate of which only the mask's size is meant, or "" for none."""

LayerName = Annotated[str, "layer"]
"""A line of the ledger."""


@dataclass(frozen=True)
class Operation:
    """One step: reads `inputs`, writes `output`."""

    inputs: tuple[ValueName, ...]
    output: ValueName
