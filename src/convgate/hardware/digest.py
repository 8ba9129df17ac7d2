"""What ties a trace to its program: a digest of the network, not of its file, nor of the size of the images."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from convgate.engine.program import Program

__all__ = ["add_arrays", "digest", "fits"]

_GEOMETRY = "2:"
"""Begins digests that cover the wiring and the geometry, as all do that are written today."""


def digest(program: Program) -> str:
    """SHA-256 of a program's gates, of its operations with all of their fields, and of its arrays.

    Fields that have their default are left out, so that digests stay when operations get new ones.
    """
    gates = [_fields(gate, without="shape") for gate in program.gates]  # which may follow from the images' size
    operations = [[type(operation).__name__, _fields(operation)] for operation in program.operations]
    channels = [[value.name, value.channels] for value in program.values]
    wiring = [program.inputs, program.outputs]
    return _GEOMETRY + _sha([gates, operations, channels, wiring], program)


def fits(program: Program, traced: str) -> bool:
    """Whether a trace's digest is that of a program; the first ones covered neither wiring nor geometry."""
    return traced == (digest(program) if traced.startswith(_GEOMETRY) else _first(program))


def _first(program: Program) -> str:
    gates = [[gate.name, gate.kind, gate.group] for gate in program.gates]
    operations = [[type(operation).__name__, operation.output] for operation in program.operations]
    return _sha([gates, operations], program)


def _sha(structure: Any, program: Program) -> str:
    found = hashlib.sha256(json.dumps(structure).encode())
    add_arrays(found, program.arrays)
    return found.hexdigest()


def _fields(entry: Any, without: str = "") -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults."""
    found = dataclasses.asdict(entry)
    own = (field for field in dataclasses.fields(entry) if getattr(entry, field.name) != field.default)
    return {field.name: found[field.name] for field in own if field.name != without}


def add_arrays(to: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Add named arrays to a digest of `hashlib`."""
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        to.update(json.dumps([name, list(array.shape), str(array.dtype)]).encode())
        to.update(array.data)
