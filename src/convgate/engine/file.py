"""Programs as .cgm files: a safetensors container of the arrays, whose metadata holds the program as JSON.

A digest over both is checked on loading, so that damage to any byte is noticed. Nothing in a file is
executed. How images are prepared is a part of the program, if it is known; files without it are read, too.
"""

import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from convgate.engine import program as programs
from convgate.engine.check import check
from convgate.engine.container import read_container
from convgate.engine.outputs import Rows
from convgate.engine.program import Activation, Gate, GateKind, Operation, Program, Value
from convgate.errors import CheckpointError, ProgramError
from convgate.files import PROGRAM_KEY, replacing
from convgate.preparation import Preparation

__all__ = ["VERSION", "load_program", "save_program"]

VERSION = 7
"""The format's version; files of a newer one are refused. From 4 on values say what their elements are, from 5 on masks
of tiles by how much they are dilated; from 6 on elements may be sums of 32 bits, from 7 on closed tiles may be
filled.
"""

_NOT_IN_FILES = (Operation, programs.Completing, programs.External)

_OPERATIONS: Mapping[str, type[Operation]] = {
    name: kind
    for name, kind in vars(programs).items()
    if isinstance(kind, type) and issubclass(kind, Operation) and kind not in _NOT_IN_FILES
}


def save_program(program: Program, path: str | PathLike[str]) -> None:
    """Write a program to `path`, complete or not at all.

    Raises `ProgramError` for one that does not hold together, or that needs PyTorch (`fallback="torch"`).
    """
    check(program)
    external = [operation.target for operation in program.externals()]
    if external:
        raise ProgramError(
            f"{len(external)} operation(s) are computed by PyTorch and cannot be saved: {', '.join(external)}; compile "
            "without fallback to see why"
        )
    text = json.dumps(
        {
            "version": VERSION,
            "values": [asdict(value) for value in program.values],
            "gates": [asdict(gate) for gate in program.gates],
            "operations": [{"operation": type(op).__name__, **asdict(op)} for op in program.operations],
            **{key: list(getattr(program, key)) for key in _NAMES},
            "returns": _written(program.returns),
            "fixed": program.fixed,
            **({"preparation": program.preparation.as_data()} if program.preparation else {}),
        }
    )
    arrays = {name: np.ascontiguousarray(array) for name, array in program.arrays.items()}
    with replacing(Path(path)) as temporary:
        save_file(arrays, temporary, metadata={PROGRAM_KEY: text, "digest": _digest(text, arrays)})


def load_program(path: str | PathLike[str]) -> Program:
    """Read a program; raises `CheckpointError` for a file that is damaged, foreign, or of a newer version."""
    text, digest, arrays = _read(Path(path))
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its program cannot be read ({error})") from None
    version = data.get("version") if isinstance(data, dict) else None
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(f"{path} is damaged: it says nothing of its format's version")
    if version > VERSION:
        raise CheckpointError(
            f"{path} is of format {version}; this convgate reads formats up to {VERSION}. Install a newer convgate"
        )
    if digest != _digest(text, arrays):
        raise CheckpointError(f"{path} is damaged: its contents do not fit its digest; write or copy the file again")
    try:
        program = _program(data, arrays)
        check(program)
    except (ProgramError, TypeError, KeyError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} holds no program that can be run: {error}") from None
    return program


def _read(path: Path) -> tuple[str, str, dict[str, np.ndarray]]:
    metadata, arrays = read_container(path, "give a .cgm file written by Engine.save", "no .cgm file")
    if PROGRAM_KEY not in metadata:
        raise CheckpointError(f"{path} is no .cgm file: it holds arrays, but no program")
    return metadata[PROGRAM_KEY], metadata.get("digest", ""), arrays


def _digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    # SHA-1 is not for security here: of those in the standard library it is the fastest that notices any damage.
    digest = hashlib.sha1(text.encode(), usedforsecurity=False)
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


_OLD = "the file is of an earlier version; compile the network again"
# Before version 3 programs did not say how sizes follow from each other.

_NAMES = ("inputs", "outputs", "layers", "vectors")


def _program(data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Program:
    return Program(
        values=tuple(_make(Value, entry) for entry in _listed(data, "values")),
        gates=tuple(_make(Gate, _with_shape(_object(entry, "a gate"))) for entry in _listed(data, "gates")),
        operations=tuple(_operation(_object(entry, "an operation")) for entry in _listed(data, "operations")),
        arrays=arrays,
        **{key: _typed(_listed(data, key), tuple[str, ...], key) for key in _NAMES},
        returns=_returns(data.get("returns")),
        fixed=_typed(data.get("fixed", _OLD), str, "fixed"),
        preparation=Preparation.from_data(data["preparation"]) if "preparation" in data else None,
    )


def _operation(entry: Mapping[str, Any]) -> Operation:
    rest = dict(entry)
    kind = rest.pop("operation", None)
    if not isinstance(kind, str) or kind not in _OPERATIONS:
        raise ValueError(f"an operation of the unknown kind {kind!r}")
    made: Operation = _make(_OPERATIONS[kind], rest)
    return made


def _written(returns: Any) -> Any:
    """How outputs are arranged, for JSON: rows are strings."""
    if isinstance(returns, Rows):
        return str(returns)
    if isinstance(returns, dict):
        return {key: _written(part) for key, part in returns.items()}
    return [_written(part) for part in returns] if isinstance(returns, tuple) else returns


def _returns(part: Any) -> Any:
    """How outputs are arranged: JSON's lists are tuples, strings are rows."""
    if isinstance(part, str):
        return Rows.parse(part)
    if isinstance(part, list):
        return tuple(_returns(inner) for inner in part)
    if isinstance(part, dict):
        return {key: _returns(inner) for key, inner in part.items()}
    return part


def _listed(data: Mapping[str, Any], key: str) -> list[Any]:
    entries = data.get(key)
    if not isinstance(entries, list):
        raise TypeError(f"its {key} are not a list")
    return entries


def _object(entry: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise TypeError(f"{what} is {str(entry)[:40]!r}, not an object with named fields")
    return entry


def _with_shape(gate: Mapping[str, Any]) -> Mapping[str, Any]:
    """A gate's fields; version 1 had rows and columns, and a channel gate's rows were its units."""
    if "shape" in gate:
        return gate
    rest = {key: value for key, value in gate.items() if key not in ("rows", "columns")}
    size = [gate["rows"], gate["columns"]]
    return rest | {"shape": [1, *size] if gate["kind"] == GateKind.SPATIAL else [*size, 1]}


def _make(kind: type, entry: Any) -> Any:
    """A dataclass from JSON: every field of the type that it is declared with, and no others."""
    entry = _object(entry, f"an entry for {kind.__name__}")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(entry) - known):
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}")
    return kind(**{name: _typed(value, hints[name], f"{kind.__name__}.{name}") for name, value in entry.items()})


def _typed(value: Any, hint: Any, what: str) -> Any:
    if hint is Activation:  # before version 3, a name
        return _make(Activation, {"name": value} if isinstance(value, str) else value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{what} is not a list")
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(value):
            raise ValueError(f"{what} has {len(value)} entries, not {len(kinds)}")
        return tuple(_typed(entry, kind, what) for entry, kind in zip(value, kinds, strict=True))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(value)
    if isinstance(hint, types.UnionType) or not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise TypeError(f"{what} is {value!r}, not {hint.__name__}")
    return value
