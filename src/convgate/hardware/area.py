"""What arrays of the accelerator take of a chip, as counted by yosys: plain numbers, kept in a JSON file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from convgate.errors import InputError
from convgate.files import write_text

__all__ = ["WITHOUT", "Area", "ArrayArea", "area_of", "as_data", "read_areas", "write_areas"]

WITHOUT = "without either"
"""The accelerator that computes everything, all at once, which the others are compared with."""


@dataclass(frozen=True)
class Area:
    """What a module takes.

    Args:
        luts: look-up tables of 6 inputs.
        registers: flip-flops.
        multipliers: products of two numbers that change, of any width up to 32 bits, which FPGAs have hard blocks for.
        memory_bits: of memories that answer in the next clock, as block memories do.
        table_bits: of memories that answer within the clock, as memories of look-up tables do.

    """

    luts: int
    registers: int
    multipliers: int
    memory_bits: int
    table_bits: int


@dataclass(frozen=True)
class ArrayArea:
    """An accelerator's array, what it takes by variant (one is `WITHOUT`), and the tool that counted."""

    rows: int
    columns: int
    areas: Mapping[str, Area]
    tool: str = ""

    def more(self, name: str, field: str) -> float | None:
        """How much more of something a variant takes than `WITHOUT`, as a share of that; None where it has none.

        >>> small, large = Area(100, 50, 4, 0, 0), Area(103, 50, 5, 0, 8)
        >>> found = ArrayArea(2, 2, {"with it": large, WITHOUT: small})
        >>> found.more("with it", "luts"), found.more("with it", "table_bits")
        (0.03, None)
        """
        before = getattr(self.areas[WITHOUT], field)
        return (getattr(self.areas[name], field) - before) / before if before else None


def area_of(path: str | Path, rows: int, columns: int) -> ArrayArea:
    """The entry of a file of areas for an array of that size.

    Raises `InputError` for a file without one, and for one that is not a file of areas.
    """
    known = read_areas(path)
    for one in known:
        if (one.rows, one.columns) == (rows, columns):
            return one
    there = ", ".join(f"{one.rows}x{one.columns}" for one in known) or "none"
    raise InputError(
        f"{path} has areas of arrays {there}, not {rows}x{columns}: count that one with `convgate hardware rtl --synth "
        f"--set rows={rows} --set columns={columns}`, which takes minutes"
    )


def read_areas(path: str | Path) -> list[ArrayArea]:
    """The arrays of a file that `write_areas` or `convgate hardware rtl --synth` wrote.

    Raises `InputError` for a file that is not one.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        return [
            ArrayArea(one["rows"], one["columns"], _checked(one["areas"]), str(data["tool"])) for one in data["arrays"]
        ]
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; `convgate hardware rtl -o FOLDER --synth` writes one") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{path} is not a file of areas as `convgate hardware rtl --synth` writes it") from error


def write_areas(path: str | Path, arrays: Sequence[ArrayArea]) -> None:
    """Write arrays that one tool counted, complete or not at all."""
    write_text(path, json.dumps(as_data(arrays), indent=2) + "\n")


def as_data(arrays: Sequence[ArrayArea]) -> dict[str, Any]:
    """Arrays as plain data, as they stand in a file."""
    return {
        "tool": arrays[0].tool if arrays else "",
        "arrays": [
            {"rows": one.rows, "columns": one.columns, "areas": {name: asdict(a) for name, a in one.areas.items()}}
            for one in arrays
        ],
    }


def _checked(found: Mapping[str, Mapping[str, int]]) -> dict[str, Area]:
    names = [field.name for field in fields(Area)]
    for counts in found.values():
        if set(counts) != set(names) or any(type(count) is not int or count < 0 for count in counts.values()):
            raise ValueError(counts)
    if WITHOUT not in found:
        raise KeyError(WITHOUT)
    return {name: Area(**counts) for name, counts in found.items()}
