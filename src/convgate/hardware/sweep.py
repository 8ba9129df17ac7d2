"""One trace on machines of several sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from convgate.engine.program import Program
from convgate.hardware.accelerator import Accelerator, require_accelerator
from convgate.hardware.energy import energy_table
from convgate.hardware.report import Simulation
from convgate.hardware.simulate import simulate
from convgate.hardware.trace import Trace

__all__ = ["SWEPT", "row_of", "settings", "sweep"]

SWEPT = ("rows", "columns", "sum_buffer_kib", "dram_bytes_per_cycle")
"""The fields of a machine that a sweep sets."""


def sweep(
    program: Program, trace: Trace, machine: Accelerator, sides: Sequence[int], bytes_per_cycle: Sequence[int]
) -> Iterator[Simulation]:
    """The simulations for square arrays of these `sides`, each with memories of these bandwidths, one after another.

    Sums keep their room: the sum buffer grows with the array. Raises `InputError` for a side that is no machine, before
    anything is simulated.
    """
    require_accelerator(machine)
    rooms = {side: -(-machine.sum_buffer_kib * side // machine.columns) for side in sides}
    machines = [
        machine.with_fields(**dict(zip(SWEPT, (side, side, rooms[side], moved), strict=True)))
        for side in sides
        for moved in bytes_per_cycle
    ]
    for one in machines:
        yield simulate(program, trace, one)


def row_of(simulation: Simulation) -> dict[str, Any]:
    """What a sweep tells of one machine."""
    machine, gated = simulation.machine, simulation.gated
    return {
        "rows": machine.rows,
        "columns": machine.columns,
        "sum_buffer_kib": machine.sum_buffer_kib,
        "dram_bytes_per_cycle": machine.dram_bytes_per_cycle,
        "speedup": float(simulation.speedup.mean()),
        "macs_cut": float(simulation.macs_cut.mean()),
        "realised": float(simulation.realised.mean()),
        "dense_cycles": int(simulation.dense.total[0]),
        "gated_cycles": float(gated.total.mean()),
        "gated_memory_share": float(gated.cycles["memory"].sum() / gated.by_line.sum()),
    }


def settings(machine: Accelerator) -> Accelerator:
    """The machine of a sweep without what the sweep sets: this is neither assumed nor changed in its results."""
    assumed, changed = ([name for name in of if name not in SWEPT] for of in (machine.assumed, machine.changed))
    return replace(machine, assumed=tuple(assumed), changed=tuple(changed))


def as_data(machine: Accelerator) -> dict[str, Any]:
    """What a sweep's rows have in common: the machine without the fields that are swept, and its table of energies."""
    told, energy = settings(machine).as_data(), energy_table(machine.energy)
    return {
        "accelerator": told["name"],
        "source": told["source"],
        "changed": told["changed"],
        "assumed": told["assumed"],
        "machine": {name: value for name, value in told["fields"].items() if name not in SWEPT},
        "energy_table": energy.source,
        "energy_left_out": list(energy.missing),
    }


def row_with_settings(row: dict[str, Any], machine: Accelerator, images: int) -> dict[str, Any]:
    """A row of a file that stands for itself: with the images, the machine's name, changes and assumptions."""
    told = settings(machine)
    return {
        **row,
        "images": images,
        "accelerator": told.name,
        "changed": told.changes(),
        "assumed": told.assumptions(),
        "energy": machine.energy,
    }
