"""A simulation as plain data: what `convgate hardware simulate --json` prints. Units are in the names."""

from dataclasses import asdict
from typing import Any

import numpy as np

from convgate.hardware.report import Report, Simulation, Spread

__all__ = ["as_data"]


def as_data(simulation: Simulation) -> dict[str, Any]:
    """Means over the images, with spreads of what differs among them; the machine in full; each step by itself."""
    machine = simulation.machine.as_data()
    data: dict[str, Any] = _plain(
        {
            "accelerator": machine["name"],
            "timing": simulation.machine.timing,
            "source": machine["source"],
            "changed": machine["changed"],
            "assumed": machine["assumed"],
            "machine": machine["fields"],
            "energy_table": simulation.energy.source,
            "energy_left_out": list(simulation.energy.missing),
            "images": simulation.images,
            "speedup": _spread(simulation.speedup),
            "macs_cut": _spread(simulation.macs_cut),
            "realised": _spread(simulation.realised),
            "dense": _summary(simulation, simulation.dense),
            "gated": _summary(simulation, simulation.gated),
            "layers": _layers(simulation),
        }
    )
    return data


def _summary(simulation: Simulation, report: Report) -> dict[str, Any]:
    machine, picojoules = simulation.machine, simulation.picojoules(report)
    by_tensor = {tensor: n.sum(1) * machine.dram_burst_bytes for tensor, n in report.bursts.items()}
    return {
        "macs": report.macs.sum(1).mean(),
        "cycles": report.total.mean(),
        "cycles_spread": _spread(report.total),
        "milliseconds": simulation.milliseconds(report.total.mean()),
        "cycles_by_cause": {cause: n.sum(1).mean() for cause, n in report.cycles.items()},
        "multipliers_used_while_computing": report.mapped(machine.peak_macs_per_cycle).mean(),
        "head_cycles": report.by_line[:, report.heads].sum(1).mean(),
        "head_macs": report.macs[:, report.heads].sum(1).mean(),
        "dram_words": {tensor: n.sum(1).mean() for tensor, n in report.words.items()},
        "dram_bytes": {tensor: n.mean() for tensor, n in by_tensor.items()},
        "dram_bytes_spread": _spread(np.sum(list(by_tensor.values()), axis=0)),
        "mask_bits_on_chip": report.mask_bits.sum(1).mean(),
        "actions": {action: n.sum(1).mean() for action, n in report.actions.items()},
        "picojoules": {action: n.mean() for action, n in picojoules.items()},
    }


def _layers(simulation: Simulation) -> list[dict[str, Any]]:
    """Each step of the gated network, and the same of the dense one; None there for steps of gate heads."""
    dense = {line.name: number for number, line in enumerate(simulation.dense.lines)}
    burst = simulation.machine.dram_burst_bytes
    return [
        {
            "step": line.name,
            "layer": line.layer,
            "head": line.head,
            "kind": line.kind,
            "dense": _line(simulation.dense, dense[line.name], burst) if line.name in dense else None,
            "gated": _line(simulation.gated, number, burst),
        }
        for number, line in enumerate(simulation.gated.lines)
    ]


def _line(report: Report, number: int, burst: int) -> dict[str, Any]:
    def means(of: Any) -> dict[str, Any]:
        return {name: n[:, number].mean() for name, n in of.items()}

    return {
        "macs": report.macs[:, number].mean(),
        "cycles": report.by_line[:, number].mean(),
        "cycles_spread": _spread(report.by_line[:, number]),
        "cycles_by_cause": means(report.cycles),
        "dram_words": means(report.words),
        "dram_bursts": means(report.bursts),
        "dram_bytes_spread": _spread(np.sum([n[:, number] for n in report.bursts.values()], axis=0) * burst),
        "mask_bits_on_chip": report.mask_bits[:, number].mean(),
        "actions": means(report.actions),
    }


def _spread(numbers: np.ndarray) -> dict[str, float]:
    return asdict(Spread.of(numbers))


def _plain(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _plain(inner) for key, inner in part.items()}
    if isinstance(part, list):
        return [_plain(inner) for inner in part]
    return part.item() if isinstance(part, np.generic) else part
