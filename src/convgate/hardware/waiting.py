"""From what each step takes to how long it waits for memory: steps cut into bands, one after another on the bus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convgate.engine.program import GateKind
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.bus import Work, stalls
from convgate.hardware.placement import Placement
from convgate.hardware.steps import ArrayStep
from convgate.hardware.workload import Workload

__all__ = ["Taken", "waits"]


@dataclass(eq=False)
class Taken:
    """What one step takes, by cause, tensor and action; int64 [N] each.

    `moved` has words and bursts, `by_band` [N, bands] the cycles but for those of waiting for memory, `positions`
    [N, bands] the open positions, `mask_bits` the bits of masks that are read.
    """

    macs: np.ndarray
    causes: dict[str, np.ndarray]
    moved: Mapping[str, tuple[np.ndarray, np.ndarray]]
    actions: dict[str, np.ndarray]
    by_band: np.ndarray
    positions: np.ndarray
    mask_bits: int = 0


def waits(workload: Workload, placement: Placement, machine: Accelerator, taken: Sequence[Taken]) -> list[np.ndarray]:
    """By step, the cycles in which it waits for memory: int64 [N]."""
    zeros = np.zeros_like(taken[0].macs)
    works: list[Work] = []
    ends: dict[str, int] = {}
    spans = []
    burst, gates = machine.dram_burst_bytes, workload.gates
    for step, one in zip(workload.steps, taken, strict=True):
        begin = len(works)
        choosing = [name for name in step.after if gates[name].kind == GateKind.CHANNEL]
        weights_after = max((ends.get(workload.logits[name], -1) for name in choosing), default=-1)
        spilled = [name for name in step.reads if name not in placement.resident]
        maps_after = max((ends.get(name, -1) for name in spilled), default=-1)
        total = {tensor: bursts * burst for tensor, (_, bursts) in one.moved.items()}
        weights = total.get("weights", zeros)
        by_band = isinstance(step, ArrayStep) and placement.passes[step.name].weights_by_band
        shares = _shares(one.positions)
        maps = _spread(total.get("inputs", zeros) + total.get("added", zeros), shares)
        stores = _spread(total.get("outputs", zeros), shares)
        weights_of = _spread(weights, shares) if by_band else [weights] + [zeros] * (len(maps) - 1)
        parts = zip(weights_of, maps, one.by_band.T, stores, strict=True)
        works.extend(Work(*part, weights_after, maps_after) for part in parts)
        ends[step.writes] = len(works) - 1
        spans.append(slice(begin, len(works)))
    waited = stalls(works, machine, len(zeros))
    return [np.sum(waited[span], axis=0) for span in spans]


def _shares(positions: np.ndarray) -> np.ndarray:
    """The positions up to the end of each band, and in all of them at least 1: int64 [N, bands]."""
    ends = positions.cumsum(1)
    return np.where(ends[:, -1:] > 0, ends, 1)


def _spread(amount: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Whole amounts [N] over bands, in proportion to their positions; they add up to `amount`."""
    upto = amount[:, None] * ends // ends[:, -1:]
    return list(np.diff(upto, axis=1, prepend=0).T)
