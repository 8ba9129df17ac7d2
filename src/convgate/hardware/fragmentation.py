"""Group size against fragmentation: recorded decisions on channels, in groups as large as a machine may want them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from convgate.engine.program import Gate, GateKind, Program
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.simulate import simulate
from convgate.hardware.trace import Trace

__all__ = ["FRAGMENTATION_IMAGES", "Grouped", "fragmentation", "regrouped"]

FRAGMENTATION_IMAGES = 50
"""So many of a trace's images are regrouped: every group size is a simulation of its own."""


@dataclass(frozen=True)
class Grouped:
    """The recorded decisions in groups of one size, on a machine; means over the images.

    Args:
        group: channels that are computed together.
        macs: of one image.
        added: MACs that grouping adds, as a share of the recorded decisions' own.
        cycles: of one image.
        macs_cut: MACs of the dense network over these.
        speedup: cycles of the dense network over these.
        realised: the speed-up over what these MACs promise.

    """

    group: int
    macs: float
    added: float
    cycles: float
    macs_cut: float
    speedup: float
    realised: float


def fragmentation(
    program: Program, trace: Trace, machine: Accelerator, images: int = FRAGMENTATION_IMAGES
) -> tuple[Grouped, ...]:
    """What recorded decisions cost where a machine takes channels by groups: of a channel, all of its group.

    A group is open where any of its channels is open, for gates of channels and of activations. So it is the recorded
    decisions that are regrouped; a network that is trained with groups decides otherwise.

    Args:
        program: as `convgate.hardware.simulate` takes it.
        trace: decisions of this program's gates.
        machine: on which each group size is simulated.
        images: the trace's first so many.

    Returns:
        By group size: the smallest that was recorded, the powers of two above it, and at last the array's columns, or
        all channels of the widest gate where these are fewer. () for a network that does not decide on channels.

    """
    sized, some = trace.check(program), trace.part(0, images)
    gates = tuple(gate for gate in sized.gates if gate.kind != GateKind.SPATIAL and gate.shape[0] > 1)
    masks = {gate.name: some.mask(gate.name) for gate in some.gates}
    rows: list[Grouped] = []
    recorded = 0
    for size in _sizes(gates, machine.columns):
        grouped = {**masks, **{gate.name: regrouped(masks[gate.name], gate, size) for gate in gates}}
        found = simulate(program, Trace.of(sized, grouped, tied_to=trace.program), machine)
        macs = int(found.gated.macs.sum())
        recorded = recorded or macs
        rows.append(
            Grouped(
                group=size,
                macs=macs / found.images,
                added=macs / max(recorded, 1) - 1,
                cycles=float(found.gated.total.mean()),
                macs_cut=float(found.macs_cut.mean()),
                speedup=float(found.speedup.mean()),
                realised=float(found.realised.mean()),
            )
        )
    return tuple(rows)


def regrouped(mask: np.ndarray, gate: Gate, group: int) -> np.ndarray:
    """A mask in which a unit is open where any unit is that begins within the same `group` channels.

    Args:
        mask: uint8 [N, units, rows, columns] of 0 and 1, a unit being `gate.group` channels.
        gate: of channels or of activations.
        group: channels; with no more than the gate's own, the mask stays what it is.

    """
    if group <= gate.group:
        return mask
    group_of = np.arange(mask.shape[1]) * gate.group // group
    starts = np.flatnonzero(np.diff(group_of, prepend=-1))
    return np.bitwise_or.reduceat(mask, starts, axis=1)[:, group_of]


def _sizes(gates: Iterable[Gate], columns: int) -> list[int]:
    owns = [gate.group for gate in gates]
    if not owns:
        return []
    least, most = min(owns), min(columns, max(gate.group * gate.shape[0] for gate in gates))
    powers = (1 << power for power in range(most.bit_length()))
    return sorted({least, *(size for size in powers if least < size <= most), max(least, most)})
