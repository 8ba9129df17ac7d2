"""The SystemVerilog sources: where they lie, and what Python reads from them."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from convgate.files import write_text

__all__ = ["HARNESS", "counters", "registers", "sources", "write_sources"]

_FOLDER = Path(__file__).parent
HARNESS = _FOLDER / "harness.cpp"


def sources() -> list[Path]:
    """The files, in the order in which tools read them: packages first.

    >>> [path.name for path in sources()][:2]
    ['cg_registers.sv', 'cg_array.sv']
    """
    found = sorted((_FOLDER / "sv").glob("*.sv"))
    return sorted(found, key=lambda path: path.name != "cg_registers.sv")


@cache
def registers() -> Mapping[str, int]:
    """The numbers of the descriptor's registers and of the bits of its flags, by name."""
    text = (_FOLDER / "sv" / "cg_registers.sv").read_text()
    return {name: int(number) for name, number in re.findall(r"localparam int (\w+) = (\d+);", text)}


@cache
def counters() -> tuple[tuple[str, str], ...]:
    """What the accelerator counts, in order: (group, name), each with a field of that name in the simulator's report.

    >>> counters()[:2]
    (('cycles', 'compute'), ('cycles', 'weight loading'))
    """
    text = (_FOLDER / "sv" / "cg_counters.sv").read_text()
    found = sorted((int(number), name) for number, name in re.findall(r"`COUNT\((\d+), (\w+)\)", text))
    pairs = [name.partition("_")[::2] for _, name in found]
    return tuple((group, name.replace("_", " ") if group == "cycles" else name) for group, name in pairs)


def write_sources(folder: str | Path, parameters: Mapping[str, int] | None = None) -> list[Path]:
    """Write the sources and the harness for Verilator into a folder; their paths.

    `parameters` of `cg_top` (see `convgate.hardware.rtl.machine.top_parameters`) become its defaults.
    """
    written = []
    for path in [*sources(), HARNESS]:
        text = path.read_text(encoding="utf-8")
        if path.name == "cg_top.sv":
            for name, number in (parameters or {}).items():
                text = re.sub(rf"(parameter int {name} = )\d+", rf"\g<1>{number}", text)
        written.append(Path(folder) / path.name)
        write_text(written[-1], text)
    return written
