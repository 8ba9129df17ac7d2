"""One trace on machines of several sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from convgate.engine.program import Program
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.report import Simulation
from convgate.hardware.simulate import simulate
from convgate.hardware.trace import Trace

__all__ = ["row_of", "sweep"]


def sweep(
    program: Program, trace: Trace, machine: Accelerator, sides: Sequence[int], bytes_per_cycle: Sequence[int]
) -> Iterator[Simulation]:
    """The simulations for square arrays of these `sides`, each with memories of these bandwidths, one after another.

    Sums keep their room: the sum buffer grows with the array.
    """
    for side in sides:
        room = -(-machine.sum_buffer_kib * side // machine.columns)
        for moved in bytes_per_cycle:
            yield simulate(
                program,
                trace,
                replace(machine, rows=side, columns=side, sum_buffer_kib=room, dram_bytes_per_cycle=moved),
            )


def row_of(simulation: Simulation) -> dict[str, Any]:
    """What a sweep tells of one machine."""
    machine, gated = simulation.machine, simulation.gated
    return {
        "rows": machine.rows,
        "columns": machine.columns,
        "dram_bytes_per_cycle": machine.dram_bytes_per_cycle,
        "speedup": float(simulation.speedup.mean()),
        "macs_cut": float(simulation.macs_cut.mean()),
        "realised": float(simulation.realised.mean()),
        "dense_cycles": int(simulation.dense.total[0]),
        "gated_cycles": float(gated.total.mean()),
        "gated_memory_share": float(gated.cycles["memory"].sum() / gated.by_line.sum()),
    }
