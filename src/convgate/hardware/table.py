"""A simulation as text: first what was found, then where it comes from."""

import numpy as np

from convgate.columns import in_columns
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.energy import EnergyTable
from convgate.hardware.report import CAUSES, Report, Simulation, Spread
from convgate.hardware.traffic import TENSORS

__all__ = ["layers", "provenance", "summary"]

_NAMES = {"added": "maps that are added", "outputs": "maps written", "inputs": "maps read"}


def summary(simulation: Simulation) -> str:
    """Means over the images: MACs, cycles by cause, traffic by tensor, energy; dense, gated, and what is left."""
    machine, dense, gated = simulation.machine, simulation.dense, simulation.gated
    rows: list[tuple[str, ...]] = [("per image, mean", "dense", "gated", "left")]

    def row(name: str, before: float, after: float) -> None:
        left = f"{after / before:.1%}" if before else ""
        rows.append((name, f"{before:,.0f}", f"{after:,.0f}", left))

    def heads(report: Report, what: np.ndarray) -> float:
        return float(what[:, report.heads].sum(1).mean())

    row("MACs", dense.macs.sum(), gated.macs.sum(1).mean())
    row("  of gate heads", 0, heads(gated, gated.macs))
    row("cycles", dense.total.mean(), gated.total.mean())
    for cause in CAUSES:
        row(f"  {cause}", dense.cycles[cause].sum(), gated.cycles[cause].sum(1).mean())
    row("  of all these, gate heads", 0, heads(gated, gated.by_line))
    burst = machine.dram_burst_bytes
    before, after = (sum(n.sum(1).mean() for n in report.bursts.values()) * burst for report in (dense, gated))
    row(f"bytes off chip, in bursts of {burst}", before, after)
    for tensor in TENSORS:
        name = f"  {_NAMES.get(tensor, tensor)}"
        row(name, dense.bursts[tensor].sum() * burst, gated.bursts[tensor].sum(1).mean() * burst)
    before, after = (sum(n.sum(1).mean() for n in report.words.values()) for report in (dense, gated))
    row(f"words off chip, of {machine.word_bits} bits", before, after)
    row("bits of masks read on chip", 0, gated.mask_bits.sum(1).mean())
    joules = [sum(n.mean() for n in simulation.picojoules(report).values()) / 1e3 for report in (dense, gated)]
    row(f"energy in nJ ({simulation.energy.name})", *joules)
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
    found += ["", *in_columns(rows, right=range(1, 4)), "", provenance(machine, simulation.energy)]
    return "\n".join(found)


def provenance(machine: Accelerator, energy: EnergyTable) -> str:
    """Where a machine and its energies come from: one line each for its source, what was changed, what is assumed."""
    found = [f"machine: {machine.name}: {machine.source}"]
    if machine.changed:
        found.append(f"changed: {machine.changes()}")
    if machine.assumed:
        found.append(f"assumed: {machine.assumptions()}")
    found.append(f"energy: {energy.source}")
    return "\n".join(found)


def layers(simulation: Simulation) -> str:
    """One line for each step: cycles dense and gated (mean, p5, p95), and the causes of the gated ones."""
    dense = {line.name: number for number, line in enumerate(simulation.dense.lines)}
    gated = simulation.gated
    rows: list[tuple[str, ...]] = [("step", "", "dense", "gated", "p5", "p95", *CAUSES)]
    for number, line in enumerate(gated.lines):
        spread = Spread.of(gated.by_line[:, number])
        own = simulation.dense.by_line[0, dense[line.name]] if line.name in dense else 0
        causes = (gated.cycles[cause][:, number].mean() for cause in CAUSES)
        counts = (own, spread.mean, spread.p5, spread.p95, *causes)
        rows.append((line.name, "head" if line.head else line.kind, *(f"{n:,.0f}" for n in counts)))
    return "\n".join(in_columns(rows, right=range(2, len(rows[0]))))
