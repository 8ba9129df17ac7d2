"""What the accelerator takes of a chip: yosys counts look-up tables, registers, multipliers and bits of memory."""

import json
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from convgate.errors import ConvgateError
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.area import WITHOUT, Area
from convgate.hardware.rtl.machine import sizes
from convgate.hardware.rtl.sources import sources
from convgate.hardware.rtl.tools import yosys

__all__ = ["area", "areas", "tool"]

_KEPT = ("cg_pe", "cg_bring")
"""Modules that are synthesised once, whatever number of them there is; everything else is one netlist."""


def areas(machine: Accelerator, seconds: float = 1800) -> Iterator[tuple[str, Area]]:
    """The accelerator with what decisions need, without any of it, and its parts alone, each as it is found.

    "Without either" is `cg_top` with GATED = 0 and PARTIAL = 0: no decisions are read, no lists are kept, and
    everything is computed at once. With GATED = 1 it has the index module, with PARTIAL = 1 it decides on partial sums,
    of which it keeps two halves, and completes them.

    Args:
        machine: whose array, buffers and index bits are built.
        seconds: that yosys may take for each.

    Raises:
        InputError: a machine that the RTL has no form for.
        ConvgateError: yosys fails, or does not end in time.
        MissingDependencyError: yosys is not there.

    """
    own = sizes(machine)
    halves = {**own, "SUMS": 2 * own["SUMS"]}
    yield WITHOUT, area("cg_top", {**own, "GATED": 0, "PARTIAL": 0}, seconds=seconds)
    yield "with partial sums", area("cg_top", {**halves, "GATED": 0, "PARTIAL": 1}, seconds=seconds)
    yield "with the index module", area("cg_top", {**own, "GATED": 1, "PARTIAL": 0}, seconds=seconds)
    yield "with both", area("cg_top", {**halves, "GATED": 1, "PARTIAL": 1}, seconds=seconds)
    yield "the index module alone", area("cg_index", {"BITS": own["INDEX_BITS"]}, seconds=seconds)
    deciding = {"COLUMNS": own["COLUMNS"], "SUMS": halves["SUMS"]}
    yield "the decisions on partial sums alone", area("cg_decide", deciding, seconds=seconds)


def tool() -> str:
    """What yosys says that it is. Raises `MissingDependencyError` where it is not there."""
    return subprocess.run([*yosys(), "-V"], capture_output=True, text=True).stdout.strip()


def area(top: str, parameters: Mapping[str, int], files: Iterable[Path] | None = None, seconds: float = 1800) -> Area:
    """What one module takes, with its parameters, e.g. ``area("cg_scan", {"BITS": 8})``; see `areas` for the errors.

    Memories and multipliers are counted and left as they are; the rest is mapped to look-up tables of 6 inputs.
    """
    paths = list(sources() if files is None else files)
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            shutil.copy(path, folder)
        script = "\n".join(_script(top, parameters, [path.name for path in paths]))
        (Path(folder) / "area.ys").write_text(script, encoding="utf-8")
        try:
            done = subprocess.run(
                [*yosys(), "-q", "-s", "area.ys"], cwd=folder, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired as error:
            raise ConvgateError(f"yosys did not end within {seconds:,.0f} s for {top} of {dict(parameters)}") from error
        if done.returncode:
            raise ConvgateError(
                f"yosys could not read {top} of {dict(parameters)}:\n{(done.stderr or done.stdout)[-2000:]}"
            )
        coarse = json.loads((Path(folder) / "coarse.json").read_text(encoding="utf-8"))
        mapped = json.loads((Path(folder) / "mapped.json").read_text(encoding="utf-8"))
    return _counted(coarse["modules"], mapped["design"]["num_cells_by_type"])


def _script(top: str, parameters: Mapping[str, int], files: Iterable[str]) -> Iterator[str]:
    yield f"read_verilog -sv {' '.join(files)}"
    if parameters:
        yield f"chparam {' '.join(f'-set {name} {number}' for name, number in parameters.items())} {top}"
    yield f"hierarchy -check -top {top}"
    yield "proc"
    yield f"setattr -mod -set keep_hierarchy 1 {' '.join(f'*{name}*' for name in _KEPT)}"
    # As yosys's own `synth` begins; memories stay memories, and products products.
    yield "flatten; opt_expr; opt_clean; check; opt -nodffe -nosdff; fsm; opt; wreduce; peepopt; opt_clean; opt"
    yield "memory -nomap; opt_clean; write_json coarse.json"
    yield "opt -fast -full; techmap -map +/techmap.v t:$mem_v2 %n t:$mul %n %i; opt -fast; abc -lut 6; opt_clean"
    yield "tee -o mapped.json stat -json"


def _counted(modules: Mapping[str, Any], cells: Mapping[str, int]) -> Area:
    times = Counter[str]()
    root = next(name for name, module in modules.items() if int(module["attributes"].get("top", "0"), 2))
    _add(root, 1, modules, times)
    found = Counter[str]()
    for name, count in times.items():
        for cell in modules[name]["cells"].values():
            numbers = {key: int(value, 2) for key, value in cell["parameters"].items() if set(value) <= {"0", "1"}}
            if cell["type"] == "$mem_v2":
                kind = "memory_bits" if numbers["RD_CLK_ENABLE"] else "table_bits"
                found[kind] += count * numbers["SIZE"] * numbers["WIDTH"]
            elif cell["type"] == "$mul":
                found["multipliers"] += count
    return Area(
        luts=cells.get("$lut", 0),
        registers=sum(number for kind, number in cells.items() if kind.startswith(("$_DFF", "$_SDFF"))),
        **{name: found[name] for name in ("multipliers", "memory_bits", "table_bits")},
    )


def _add(name: str, count: int, modules: Mapping[str, Any], to: Counter[str]) -> None:
    to[name] += count
    for cell in modules[name]["cells"].values():
        if cell["type"] in modules:
            _add(cell["type"], count, modules, to)
