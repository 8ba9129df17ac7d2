"""What is settled before any image is seen: which maps stay on chip, and what is read how often.

Both follow from the dense sizes, so that a placement holds for every image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from convgate.hardware.accelerator import Accelerator
from convgate.hardware.counts import bands
from convgate.hardware.steps import ArrayStep, Step
from convgate.hardware.workload import Workload

__all__ = ["Passes", "Placement", "place"]


@dataclass(frozen=True)
class Passes:
    """How often a step's inputs are read from memory; and whether its weights are read again for each band."""

    inputs: int = 1
    weights_by_band: bool = False


@dataclass(frozen=True)
class Placement:
    """`resident` maps stay on chip; `compact` ones are stored without what is closed; `passes` are by step."""

    resident: frozenset[str]
    compact: frozenset[str]
    passes: Mapping[str, Passes]


def place(workload: Workload, machine: Accelerator) -> Placement:
    """The placement of a workload on a machine.

    A map stays on chip if there is room for it from the step that writes it to the last that reads it; first come,
    first served. What only decisions read never leaves the chip. Of a step whose maps and weights both exceed the
    halves of their buffers, either the inputs are read once for each set of weights that fits, or the weights once for
    each band: what moves fewer words.
    """
    resident = _resident(workload, machine)
    compact = {
        step.writes
        for step in workload.array_steps()
        if (step.positions or step.outputs) and not step.added and step.writes not in workload.results
    }
    passes = {step.name: _passes(step, machine, resident) for step in workload.array_steps()}
    return Placement(frozenset(resident), frozenset(compact), passes)


def _resident(workload: Workload, machine: Accelerator) -> set[str]:
    last_read: dict[str, int] = {}
    for number, step in enumerate(workload.steps):
        last_read |= dict.fromkeys(step.reads, number)
    # Logits that nothing else reads become bits of a mask as they leave the array.
    resident = {name for name in workload.logits.values() if name not in last_read}
    room = machine.map_buffer_kib * 1024
    never = {*workload.images, *workload.results}
    for number, step in enumerate(workload.steps):
        size = _bytes(workload, step.writes, machine)
        done = [name for name in step.reads if name in resident and last_read[name] == number]
        replaced = [name for name in done if _replaces(step, name)]
        room += sum(_bytes(workload, name, machine) for name in replaced)
        if size <= room and step.writes not in never and step.writes in last_read:
            resident.add(step.writes)
            room -= size
        room += sum(_bytes(workload, name, machine) for name in done if name not in replaced)
    return resident


def _replaces(step: Step, name: str) -> bool:
    """Whether a step writes where a map that it reads lies."""
    return isinstance(step, ArrayStep) and step.in_place and name == step.added


def _bytes(workload: Workload, name: str, machine: Accelerator) -> int:
    return int(np.prod(workload.maps[name].shape)) * machine.word_bytes


def _passes(step: ArrayStep, machine: Accelerator, resident: set[str]) -> Passes:
    inputs = step.in_channels * step.source[0] * step.source[1] * machine.word_bytes
    row = step.taps * step.in_channels // step.groups * machine.word_bytes
    weights = row * step.out_channels
    half_maps, half_weights = machine.input_buffer_kib * 512, machine.weight_buffer_kib * 512
    if step.reads[0] in resident or inputs <= half_maps or weights <= half_weights:
        return Passes()
    column_blocks = -(-step.out_channels // machine.columns)
    together = max(1, half_weights // (row * machine.columns))
    again, count = -(-column_blocks // together), len(bands(step.out, machine.sum_positions))
    if again * inputs + weights <= inputs + count * weights:
        return Passes(inputs=again)
    return Passes(weights_by_band=True)
