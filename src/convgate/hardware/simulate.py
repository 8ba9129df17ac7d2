"""Simulate: a program and the decisions of its gates on an accelerator."""

from collections.abc import Mapping

import numpy as np

from convgate.engine.program import GateKind, Program
from convgate.errors import InputError
from convgate.hardware.accelerator import Accelerator, require_accelerator
from convgate.hardware.counts import Counts, Masks, count
from convgate.hardware.energy import ACTIONS, energy_table
from convgate.hardware.folds import Block, blocks, planes, products, tap_shape
from convgate.hardware.placement import Placement, place
from convgate.hardware.report import CAUSES, Line, Report, Simulation
from convgate.hardware.steps import ArrayStep, Step, VectorStep
from convgate.hardware.timing import ArrayTime, double_buffered, overlapped, serial, serial_accesses
from convgate.hardware.trace import Trace
from convgate.hardware.traffic import TENSORS, Traffic
from convgate.hardware.waiting import Taken, waits
from convgate.hardware.workload import Workload

__all__ = ["simulate", "simulate_workload"]

_IMAGES, _DECISIONS = 64, 1 << 27
"""Images and decisions of one chunk, at most: what memory is needed for does not grow with the trace."""


def simulate(program: Program, trace: Trace, machine: Accelerator) -> Simulation:
    """What a gated network and the same without its gates take on a machine, for every image of a trace.

    Args:
        program: of a .cgm file (`convgate.engine.load(path).program`).
        trace: decisions of this program's gates, see `convgate.hardware.record`.
        machine: see `convgate.hardware.accelerator`.

    Raises:
        InputError: the trace is of another program or has no images, or PyTorch computes a part of the network.

    """
    require_accelerator(machine)
    if not trace.images:
        raise InputError(
            "the trace has no images (a part of it that begins after the last has none): give at least one"
        )
    workload = Workload.of(trace.check(program))
    parts = []
    at_once = max(1, min(_IMAGES, _DECISIONS // max(1, sum(gate.entries for gate in trace.gates))))
    for begin in range(0, trace.images, at_once):
        some = trace.part(begin, begin + at_once)
        masks = {gate.name: some.mask(gate.name) for gate in trace.gates}
        parts.append(simulate_workload(workload, masks, machine, some.images))
    dense = simulate_workload(workload.dense(), {}, machine, 1)
    return Simulation(machine, _joined(parts), dense, energy_table(machine.energy))


def simulate_workload(workload: Workload, masks: Masks, machine: Accelerator, images: int) -> Report:
    """What a workload takes for `images` images at once, given the masks of the program's gates."""
    return _Chunk(workload, workload.masks(masks), machine, images).report()


class _Chunk:
    def __init__(self, workload: Workload, masks: Masks, machine: Accelerator, images: int) -> None:
        self.workload, self.masks, self.machine, self.images = workload, masks, machine, images
        self.placement: Placement = place(workload, machine)
        self.traffic = Traffic(workload, self.placement, machine, masks, images)
        self.zeros = np.zeros(images, np.int64)
        self.just_decided: frozenset[str] = frozenset()
        self.first = True

    def report(self) -> Report:
        taken = []
        for step, decided in zip(self.workload.steps, self.workload.just_decided(), strict=True):
            self.just_decided = decided
            taken.append(self._step(step))
        if self.machine.timing == "double_buffered":
            for one, wait in zip(taken, waits(self.workload, self.placement, self.machine, taken), strict=True):
                one.causes["memory"] = wait

        def table(of: list[Mapping[str, np.ndarray]], names: tuple[str, ...]) -> dict[str, np.ndarray]:
            return {name: np.stack([found.get(name, self.zeros) for found in of], 1) for name in names}

        bits = np.array([one.mask_bits for one in taken], np.int64)
        return Report(
            tuple(Line(s.name, s.layer, s.head, _kind(s)) for s in self.workload.steps),
            np.stack([one.macs for one in taken], 1),
            table([one.causes for one in taken], CAUSES),
            table([{t: words for t, (words, _) in one.moved.items()} for one in taken], TENSORS),
            table([{t: bursts for t, (_, bursts) in one.moved.items()} for one in taken], TENSORS),
            table([one.actions for one in taken], tuple(ACTIONS)),
            np.broadcast_to(bits, (self.images, len(bits))),
        )

    def _step(self, step: Step) -> Taken:
        if isinstance(step, ArrayStep):
            return self._array(step)
        assert isinstance(step, VectorStep)
        return self._vector(step)

    def _array(self, step: ArrayStep) -> Taken:
        machine = self.machine
        counts = count(step, self.workload.gates, self.masks, self.images, machine.sum_positions, machine.columns)
        moved = self.traffic.array(step, counts)
        if machine.timing == "double_buffered":
            causes, by_band, actions = self._with_buffers(step, counts)
        else:
            causes, by_band, actions = self._scalesim(step, counts)
        self._moved(actions, step.writes, moved)
        actions["mac"] = actions["register"] = counts.macs
        gates = {gate for gate in (*step.after, step.read_positions) if gate}
        bits = sum(int(np.prod(self.workload.decided(gate).shape)) for gate in gates)
        if step.completion is not None:
            bits += int(np.prod(step.completion.gate.shape))
        self.first = False
        return Taken(counts.macs, causes, moved, actions, by_band, counts.positions, bits)

    def _with_buffers(
        self, step: ArrayStep, counts: Counts
    ) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
        machine = self.machine
        shape = tap_shape(step, tap_planes=machine.tap_planes, packed=machine.packed, columns=machine.columns)
        found = blocks(step, counts, machine.rows, machine.columns, shape)
        bands = counts.positions.shape[1]
        time = double_buffered(found, self.images, bands, machine.rows, machine.columns, machine.latencies)
        causes = self._causes(step, time, counts)
        before = (
            causes["waiting for decisions"] - time.decisions + causes["index"] + causes["weight loading"] - time.weights
        )
        by_band = time.by_band.copy()
        by_band[:, 0] += before
        by_band[:, -1] += causes["fill and drain"] + causes["vector"]
        return causes, by_band, self._accesses(found)

    def _causes(self, step: ArrayStep, time: ArrayTime, counts: Counts) -> dict[str, np.ndarray]:
        """The first weights of a step are loaded while the step before drains, unless they wait for its decision."""
        waits = bool(self.just_decided.intersection(step.after))
        first = time.first_weights
        decided = first + self.machine.decision_latency_cycles if waits else self.zeros
        vector = self.zeros
        if self.machine.tap_planes and planes(step, self.machine.columns):
            adds = (step.taps - 1) * step.out_channels * counts.area
            vector = -(-adds // self.machine.vector_lanes)
        return {
            "compute": time.compute,
            "weight loading": time.weights + (first if self.first else 0),
            "fill and drain": time.fill_drain,
            "waiting for decisions": time.decisions + decided,
            "index": self._index(step),
            "vector": vector,
        }

    def _index(self, step: ArrayStep) -> np.ndarray:
        """Cycles before the first index, and those of listing open units of a gate that was decided just now."""
        cycles = self.zeros
        for name in step.after:
            gate = self.workload.gates[name]
            bits = self.masks[name].reshape(self.images, -1)
            if gate.kind == GateKind.CHANNEL and name in self.just_decided:
                cycles = cycles + bits.sum(1, dtype=np.int64) + self._empty(bits)
            elif gate.kind == GateKind.SPATIAL:
                cycles = cycles + self._empty(bits) * bits.any(1)
        return cycles + (self.machine.index_latency_cycles if step.after else 0)

    def _empty(self, bits: np.ndarray) -> np.ndarray:
        """How many words of a mask hold no open entry."""
        width = self.machine.index_bits
        words = np.add.reduceat(bits, range(0, bits.shape[1], width), axis=1, dtype=np.int64)
        return (words == 0).sum(1, dtype=np.int64)

    def _accesses(self, found: list[Block]) -> dict[str, np.ndarray]:
        rows = self.machine.rows
        sent, weights, sums = self.zeros, self.zeros, self.zeros
        for block in found:
            sent = sent + block.positions * block.rows(rows)
            weights = weights + np.where(block.there, block.weights, 0)
            sums = sums + np.where(block.there, block.positions * block.row_blocks * block.taps * block.columns, 0)
        return {
            "input_buffer_read": sent,
            "weight_buffer_read": weights,
            "sum_buffer_write": sums,
            "sum_buffer_read": sums,
        }

    def _scalesim(
        self, step: ArrayStep, counts: Counts
    ) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
        machine, found = self.machine, products(step, counts, self.machine.columns)
        if machine.timing == "serial":
            time = serial(found, machine.rows, machine.columns, machine.dataflow)
        else:
            time = overlapped(found, machine.rows, machine.columns)
        inputs, weights, outputs = serial_accesses(found, machine.rows, machine.columns, machine.dataflow)
        actions = {"input_buffer_read": inputs, "weight_buffer_read": weights, "sum_buffer_write": outputs}
        causes = {"compute": time.compute, "weight loading": time.weights, "fill and drain": time.fill_drain}
        return causes, time.by_band, actions

    def _moved(
        self, actions: dict[str, np.ndarray], writes: str, moved: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> None:
        """The actions of what is moved."""

        def of(tensor: str, kind: int) -> np.ndarray:
            return moved[tensor][kind] if tensor in moved else self.zeros

        burst = self.machine.dram_burst_bytes
        actions["dram_read"] = (of("inputs", 1) + of("weights", 1) + of("added", 1)) * burst
        actions["dram_write"] = of("outputs", 1) * burst
        actions["weight_buffer_write"] = of("weights", 0)
        actions["input_buffer_write"] = of("inputs", 0) + of("added", 0)
        if writes in self.placement.resident:
            size = int(np.prod(self.workload.maps[writes].shape))
            written = self.traffic.compact.get(writes)
            actions["input_buffer_write"] = actions["input_buffer_write"] + (size if written is None else written)

    def _vector(self, step: VectorStep) -> Taken:
        moved = self.traffic.vector(step)
        cycles = self.zeros
        if self.machine.timing == "double_buffered" and not self.traffic.on_the_way(step):
            cycles = cycles + -(-step.elements // self.machine.vector_lanes)
        actions: dict[str, np.ndarray] = {}
        self._moved(actions, step.writes, moved)
        ones = np.ones((self.images, 1), np.int64)
        return Taken(self.zeros, {"vector": cycles}, moved, actions, cycles[:, None], ones)


def _kind(step: Step) -> str:
    if isinstance(step, VectorStep):
        return "vector"
    assert isinstance(step, ArrayStep)
    return f"{step.kernel[0]}x{step.kernel[1]}" + (" completed" if step.completion else "")


def _joined(parts: list[Report]) -> Report:
    if len(parts) == 1:
        return parts[0]

    def join(arrays: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}

    return Report(
        parts[0].lines,
        np.concatenate([part.macs for part in parts]),
        join([part.cycles for part in parts]),
        join([part.words for part in parts]),
        join([part.bursts for part in parts]),
        join([part.actions for part in parts]),
        np.concatenate([part.mask_bits for part in parts]),
    )
