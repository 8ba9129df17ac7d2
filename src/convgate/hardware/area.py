"""What arrays of the accelerator take of a chip, as counted by yosys: plain numbers, kept in a JSON file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from convgate.errors import InputError
from convgate.files import write_text
from convgate.hardware.accelerator import Accelerator

__all__ = ["WITHOUT", "Area", "ArrayArea", "area_of", "as_data", "built_as", "read_areas", "write_areas"]

WITHOUT = "without either"
"""The accelerator that computes everything, all at once, which the others are compared with."""

_ALONE = " alone"
"""How the names of parts end."""
_WORD_BITS = 8
"""Of the RTL's activations and weights, whatever the machine's are."""
_BUILT = ("index_bits", "input_buffer_kib", "weight_buffer_kib", "sum_buffer_kib")
"""The fields of a machine that the RTL's size depends on, beside its rows and columns."""


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
    """An accelerator's array, what it takes by variant (one is `WITHOUT`), and the tool that counted.

    `accelerator` and `built` say of which machine it was counted and with which of its fields, see `built_as`; files of
    old do not have them, and then they are empty.
    """

    rows: int
    columns: int
    areas: Mapping[str, Area]
    tool: str = ""
    accelerator: str = ""
    built: Mapping[str, int] = field(default_factory=dict)

    def sizes(self) -> str:
        """What was built, in words; "" where that is not known."""
        return ", ".join(f"{name} {value}" for name, value in self.built.items())

    def others(self, machine: Accelerator) -> str:
        """The fields of a machine that what was built does not have, in words; "" where there are none."""
        differing = (name for name, value in self.built.items() if getattr(machine, name) != value)
        return ", ".join(f"{name} {getattr(machine, name)}" for name in differing)

    def more(self, name: str, field: str) -> float | None:
        """How much more of something a variant takes than `WITHOUT`, as a share of that; None where it has none.

        None for a part alone, too, which is no accelerator.

        >>> small, large = Area(100, 50, 4, 0, 0), Area(103, 50, 5, 0, 8)
        >>> found = ArrayArea(2, 2, {"with it": large, WITHOUT: small})
        >>> found.more("with it", "luts"), found.more("with it", "table_bits")
        (0.03, None)
        """
        before = 0 if name.endswith(_ALONE) else getattr(self.areas[WITHOUT], field)
        return (getattr(self.areas[name], field) - before) / before if before else None


def built_as(machine: Accelerator) -> dict[str, int]:
    """What the RTL is built with for a machine, by field.

    >>> from convgate.hardware import accelerator
    >>> built_as(accelerator("edge-8"))
    {'word_bits': 8, 'index_bits': 64, 'input_buffer_kib': 16, 'weight_buffer_kib': 32, 'sum_buffer_kib': 32}
    """
    return {"word_bits": _WORD_BITS, **{name: getattr(machine, name) for name in _BUILT}}


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
            ArrayArea(
                one["rows"],
                one["columns"],
                _checked(one["areas"]),
                str(data["tool"]),
                str(one.get("accelerator", "")),
                _checked_built(one.get("built", {})),
            )
            for one in data["arrays"]
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
            {
                "rows": one.rows,
                "columns": one.columns,
                **({"accelerator": one.accelerator, "built": dict(one.built)} if one.built else {}),
                "areas": {name: asdict(a) for name, a in one.areas.items()},
            }
            for one in arrays
        ],
    }


def _checked_built(found: Mapping[str, int]) -> dict[str, int]:
    if set(found) - {"word_bits", *_BUILT} or any(type(size) is not int for size in found.values()):
        raise ValueError(found)
    return dict(found)


def _checked(found: Mapping[str, Mapping[str, int]]) -> dict[str, Area]:
    names = [field.name for field in fields(Area)]
    for counts in found.values():
        if set(counts) != set(names) or any(type(count) is not int or count < 0 for count in counts.values()):
            raise ValueError(counts)
    if WITHOUT not in found:
        raise KeyError(WITHOUT)
    return {name: Area(**counts) for name, counts in found.items()}
