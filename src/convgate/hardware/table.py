"""A simulation as text: first what was found, then where it comes from."""

from collections.abc import Iterable, Mapping
from itertools import chain

import numpy as np

from convgate.columns import in_columns
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.energy import EnergyTable
from convgate.hardware.report import CAUSES, Simulation, Spread
from convgate.hardware.traffic import TENSORS

__all__ = ["TENSOR_NAMES", "layers", "provenance", "summary"]

TENSOR_NAMES: Mapping[str, str] = {
    "inputs": "maps read",
    "weights": "weights",
    "added": "maps that are added",
    "outputs": "maps written",
    "masks": "masks",
}
"""What readers call the tensors of `convgate.hardware.traffic`."""

_BUFFERS: Mapping[str, tuple[str, ...]] = {
    "maps": ("input_buffer_read", "input_buffer_write"),
    "weights": ("weight_buffer_read", "weight_buffer_write"),
    "sums": ("sum_buffer_read", "sum_buffer_write"),
}
"""What the buffers on chip hold, and the actions that read and write it."""


def summary(simulation: Simulation) -> str:
    """Means over the images: MACs, cycles by cause, traffic by tensor, energy; dense, gated, and what is left."""
    machine, dense, gated = simulation.machine, simulation.dense, simulation.gated
    both, burst, nothing = (dense, gated), machine.dram_burst_bytes, np.zeros(1, np.int64)
    rows: list[tuple[str, ...]] = [("per image, mean", "dense", "gated", "p5", "p95", "left")]

    def row(name: str, before: np.ndarray, after: np.ndarray) -> None:
        """What is counted, dense [1] and gated [N]."""
        spread = Spread.of(after)
        left = f"{after.mean() / before.mean():.1%}" if before.any() else ""
        counts = (before.mean(), spread.mean, spread.p5, spread.p95)
        rows.append((name, *(f"{number:,.0f}" for number in counts), left))

    row("MACs", *(report.macs.sum(1) for report in both))
    row("  of gate heads", nothing, gated.macs[:, gated.heads].sum(1))
    row("cycles", *(report.total for report in both))
    for cause in CAUSES:
        row(f"  {cause}", *(report.cycles[cause].sum(1) for report in both))
    row("  of all these, gate heads", nothing, gated.by_line[:, gated.heads].sum(1))
    row(f"bytes off chip, in bursts of {burst}", *(_sum(report.bursts, TENSORS) * burst for report in both))
    for tensor in TENSORS:
        row(f"  {TENSOR_NAMES[tensor]}", *(report.bursts[tensor].sum(1) * burst for report in both))
    row(f"words off chip, of {machine.word_bits} bits", *(_sum(report.words, TENSORS) for report in both))
    row("words read or written on chip", *(_sum(report.actions, chain(*_BUFFERS.values())) for report in both))
    for name, actions in _BUFFERS.items():
        row(f"  {name}", *(_sum(report.actions, actions) for report in both))
    row("bits of masks read on chip", nothing, gated.mask_bits.sum(1))
    joules = (sum(simulation.picojoules(report).values(), np.zeros(len(report.macs))) / 1e3 for report in both)
    row(f"energy in nJ ({_energy(simulation.energy)})", *joules)
    found = [
        f"{simulation.images:,} images on {machine.called} ({machine.rows}x{machine.columns}, {machine.timing})",
        "",
    ]
    for name, numbers in (
        ("speed-up", simulation.speedup),
        ("MACs, dense over gated", simulation.macs_cut),
        ("of what the MACs promise", simulation.realised),
    ):
        spread = Spread.of(numbers)
        found.append(f"{name}: {spread.mean:.3f} (p5 {spread.p5:.3f}, p95 {spread.p95:.3f})")
    cycles, frequency = gated.total.mean(), machine.frequency_mhz
    used = [report.mapped(machine.peak_macs_per_cycle).mean() for report in (gated, dense)]
    found.append(f"multipliers at work while positions are sent: {used[0]:.1%} gated, {used[1]:.1%} dense")
    found.append(f"milliseconds at {frequency:g} MHz: {simulation.milliseconds(cycles):.3f} gated, "
                 f"{simulation.milliseconds(dense.total.mean()):.3f} dense")  # fmt: skip
    found += ["", *in_columns(rows, right=range(1, 6)), "", provenance(machine, simulation.energy)]
    return "\n".join(found)


def provenance(machine: Accelerator, energy: EnergyTable) -> str:
    """Where a machine and its energies come from: one line each for its source, what was changed, what is assumed."""
    found = [f"machine: {machine.name}: {machine.source}"]
    if machine.changed:
        found.append(f"changed: {machine.changes()}")
    if machine.assumed:
        found.append(f"assumed: {machine.assumptions()}")
    found.append(f"energy: {energy.name}: {energy.source}")
    if energy.missing:
        found.append(f"counted, but without a figure in this table, so not in the energy: {', '.join(energy.missing)}")
    return "\n".join(found)


def layers(simulation: Simulation) -> str:
    """One line for each step: cycles and bytes off chip, dense and gated, and the causes of the gated cycles."""
    numbers = {line.name: number for number, line in enumerate(simulation.dense.lines)}
    dense, gated, burst = simulation.dense, simulation.gated, simulation.machine.dram_burst_bytes
    moved = [np.sum(list(report.bursts.values()), axis=0).mean(0) * burst for report in (dense, gated)]
    heads = ("cycles dense", "gated", "p5", "p95", *CAUSES, "bytes dense", "gated")
    rows: list[tuple[str, ...]] = [("step", "", *heads)]
    for number, line in enumerate(gated.lines):
        spread, own = Spread.of(gated.by_line[:, number]), numbers.get(line.name)
        before = (0, 0) if own is None else (dense.by_line[0, own], moved[0][own])
        causes = (gated.cycles[cause][:, number].mean() for cause in CAUSES)
        counts = (before[0], spread.mean, spread.p5, spread.p95, *causes, before[1], moved[1][number])
        rows.append((line.name, "head" if line.head else line.kind, *(f"{n:,.0f}" for n in counts)))
    return "\n".join(in_columns(rows, right=range(2, len(rows[0]))))


def _sum(table: Mapping[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    """All of these together, of each image: int64 [N]."""
    return np.asarray(sum(table[name].sum(1) for name in names), np.int64)


def _energy(table: EnergyTable) -> str:
    return f"{table.name}, without {len(table.missing)} actions" if table.missing else table.name
