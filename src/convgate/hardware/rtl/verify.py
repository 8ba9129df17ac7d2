"""A network of 8-bit integers on the accelerator's RTL: its results and its counters, layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from convgate.engine.inputs import checked_inputs, require_finite
from convgate.engine.integer import IntegerNetwork, uses_integers
from convgate.engine.integer.reference import Context, compute
from convgate.engine.program import (
    Completing,
    Conv,
    GateKind,
    IntegerComplete,
    IntegerConv,
    IntegerConvToFloat,
    Operation,
    Program,
    label,
)
from convgate.engine.runtime import choose_isa
from convgate.errors import InputError
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.counts import bands
from convgate.hardware.placement import Passes, place
from convgate.hardware.report import Report
from convgate.hardware.rtl.completion import CompletedLayer, PartialSums, partial_sums, weight_rows
from convgate.hardware.rtl.layer import Layer, Slots, listing
from convgate.hardware.rtl.machine import require_built
from convgate.hardware.rtl.model import Answer, Model
from convgate.hardware.simulate import simulate_workload
from convgate.hardware.steps import ArrayStep
from convgate.hardware.workload import Workload

__all__ = ["Found", "Verified", "parameters", "verified_machine", "verify"]

_LINE = 64
"""Bytes of a line of memory, of which the harness tells how many were touched."""


@dataclass(frozen=True, eq=False)
class Found:
    """One layer of one image: whether its results are the reference's, and counters that differ from the simulator's.

    `differing` has by (group, name) what the RTL counted and what the simulator says; `cycles` are the RTL's and
    `simulated` the simulator's, without those of memory, of which the RTL counts `memory`.
    """

    image: int
    layer: str
    wrong: int
    cycles: int
    simulated: int
    memory: int
    differing: Mapping[tuple[str, str], tuple[int, int]]


@dataclass(eq=False)
class Verified:
    """What `verify` found: `layers` by image, the layers that were left to the host, whether all outputs are equal."""

    machine: Accelerator
    images: int
    host: tuple[str, ...]
    layers: list[Found] = field(default_factory=list)
    outputs_equal: bool = True
    compared: int = 0

    @property
    def passed(self) -> bool:
        """Whether everything is equal."""
        return self.outputs_equal and not any(found.wrong or found.differing for found in self.layers)

    @property
    def not_compared(self) -> tuple[str, ...]:
        """What both count and is not compared: bursts, unless they are lines of 64 bytes, as the harness has them."""
        return () if self.machine.dram_burst_bytes == _LINE else ("bursts",)


def verified_machine(machine: Accelerator) -> Accelerator:
    """The machine as the RTL is built: maps lie in memory between steps, and a step's maps and weights fit on chip.

    Raises `InputError` for fields that the RTL cannot have.
    """
    require_built(machine)
    return replace(machine, map_buffer_kib=0)


def parameters(workload: Workload, machine: Accelerator) -> dict[str, int]:
    """Of the RTL, for a workload: at least what small networks need, so that few models are built."""

    def room(least: int, *needed: int) -> int:
        return max(least, 1 << (max(needed, default=1) - 1).bit_length())

    steps = [step for step in workload.array_steps() if step.groups == 1 and not step.head]
    row_blocks = [-(-step.in_channels // machine.rows) for step in steps]
    column_blocks = [-(-step.out_channels // machine.columns) for step in steps]
    areas = [max(step.area, step.source[0] * step.source[1]) for step in steps]
    gates = [int(np.prod(gate.shape)) for gate in workload.gates.values() if gate.kind != GateKind.ACTIVATION]
    found = {
        "ROWS": machine.rows,
        "COLUMNS": machine.columns,
        "INDEX_BITS": machine.index_bits,
        "MASK_WORDS": room(1024 // machine.index_bits, *(-(-n // machine.index_bits) for n in gates)),
        "POSITIONS": room(1024, *areas),
        "CHANNELS": room(256, *(max(step.in_channels, step.out_channels) for step in steps)),
        "INPUTS": room(8192, *(s.source[0] * s.source[1] * n for s, n in zip(steps, row_blocks, strict=True))),
        "WEIGHTS": room(16384, *(weight_rows(step, machine.columns) for step in steps)),
        "SUMS": room(1024, *(step.area * (2 if step.completion else 1) for step in steps)),
        "OUTPUTS": room(16384, *(s.area * n for s, n in zip(steps, column_blocks, strict=True))),
    }
    too_large = {name: n for name, n in found.items() if n > 1 << 16}
    if too_large:
        needed = ", ".join(f"{number} {name}" for name, number in too_large.items())
        raise InputError(
            f"the RTL has addresses of 16 bits on chip, for {1 << 16} entries; this network needs {needed}"
        )
    return found


def verify(
    program: Program,
    images: np.ndarray,
    machine: Accelerator,
    given: Mapping[str, np.ndarray] | None = None,
    *,
    resting: int = 0,
    seed: int = 1,
    model: Model | None = None,
) -> Verified:
    """Run a network on the RTL and compare it with the integer reference and with the simulator.

    Every convolution of 8-bit integers with one group is computed by the RTL, from what the RTL computed before;
    everything else, and gates' heads whatever they are, by the host. On partial sums the RTL decides itself. Results
    must equal the reference's, bit by bit; cycles by cause (without `memory` and `vector`), words by tensor, bursts (of
    a machine whose bursts are lines of 64 bytes) and accesses to buffers the simulator's.

    Args:
        program: of integers, see `convgate.quantize`, at the size of the images.
        images: float32 [N, C, H, W].
        machine: see `verified_machine`.
        given: masks by gate, uint8 [N, units, rows, columns], instead of the gates' decisions on the host.
        resting: percent of the clocks in which the memory does nothing.
        seed: of the numbers that say in which.
        model: a running model of these `parameters`, if there is one.

    Raises:
        InputError: a program without integers, or one that the RTL cannot run; images that are not the program's, none
            at all, or some that are not finite; a mask of a gate that the RTL decides.
        MissingDependencyError: Verilator is not there.

    """
    if not uses_integers(program):
        raise InputError("the program has no integers: make it with convgate.quantize(net, batches)")
    images = _checked(program, images)
    machine = verified_machine(machine)
    workload = Workload.of(program)
    run = _Run(program, workload, machine, resting, seed)
    if not run.steps:
        raise InputError("the program has no convolution of 8-bit integers with one group: nothing runs on the RTL")
    if own_gates := sorted(set(given or {}) & {parts.decision.output for parts in run.partial.values()}):
        raise InputError(
            f"the RTL decides {', '.join(own_gates)} itself, on partial sums, and takes no masks for it: "
            "give none, and change the offsets of the program's IntegerDecide if other parts are to be open"
        )
    found = Verified(machine, len(images), run.host)
    own = model or Model(parameters(workload, machine))
    try:
        for number in range(len(images)):
            masks = {name: mask[number : number + 1] for name, mask in (given or {}).items()}
            run.image(number, images[number : number + 1], masks, own, found)
    finally:
        if model is None:
            own.close()
    return found


def _checked(program: Program, images: np.ndarray) -> np.ndarray:
    """The images, which are what an engine takes, and of the program's own size."""
    (found,) = checked_inputs(program, [images])
    require_finite([found])
    expected = program.value(program.inputs[0]).shape
    if found.shape[1:] != expected:
        raise InputError(
            f"images of {found.shape[2]} x {found.shape[3]}, and the RTL runs the program at the size that it was made "
            f"for, {expected[1]} x {expected[2]}: give images of that size, or quantise the network for this one"
        )
    return found


class _Run:
    def __init__(self, program: Program, workload: Workload, machine: Accelerator, resting: int, seed: int) -> None:
        self.program, self.workload, self.machine = program, workload, machine
        self.resting, self.seed = resting, seed
        self.placement = place(workload, machine)
        self.partial: dict[str, PartialSums] = {}
        self.steps: dict[str, ArrayStep] = {}
        by_name = {step.name: step for step in workload.array_steps() if step.groups == 1 and not step.head}
        for op in program.operations:
            step = by_name.get(label(op))
            if step is None:
                continue
            if isinstance(op, IntegerComplete) and (parts := partial_sums(program, op, step, machine)):
                self.partial[step.name] = parts
            elif not isinstance(op, IntegerConv | IntegerConvToFloat):
                continue
            self.steps[step.name] = step
        self.host = tuple(step.name for step in workload.array_steps() if not step.head and step.name not in self.steps)
        decided = zip(workload.steps, workload.just_decided(), strict=True)
        self.decided = {step.name: gates for step, gates in decided}
        self.writers = {step.writes: step for step in self.steps.values()}
        self.first = next(workload.array_steps()).name
        for step in self.steps.values():
            self._check(step)

    def _check(self, step: ArrayStep) -> None:
        if self.placement.passes[step.name] != Passes() or len(bands(step.out, self.machine.sum_positions)) > 1:
            raise InputError(
                f"{step.name}: its maps, weights or sums exceed the buffers of {self.machine.name}, and the RTL takes "
                "a step in one piece; give it larger ones, with sum_buffer_kib, input_buffer_kib or weight_buffer_kib"
            )
        for gate in {step.positions, step.read_positions} - {""}:
            if gate in self.workload.dilations:
                raise InputError(
                    f"{step.name}: its mask of tiles is dilated, and the RTL has no form for that; the simulator has "
                    "(convgate hardware simulate)"
                )
            shape = self.workload.gates[gate].shape
            sizes = step.out if gate == step.positions else step.source
            if shape[1] > sizes[0] or shape[2] > sizes[1] or max(shape[1:]) > 127:
                raise InputError(
                    f"{step.name}: a mask of {shape[1]}x{shape[2]} tiles on {sizes[0]}x{sizes[1]} positions"
                )

    def image(
        self, number: int, image: np.ndarray, given: Mapping[str, np.ndarray], model: Model, to: Verified
    ) -> None:
        """Run one image, and add what is found."""
        slots, found = Slots(), []
        masks: dict[str, np.ndarray] = {}

        def on_rtl(op: Operation, context: Context, inputs: Sequence[np.ndarray]) -> np.ndarray:
            expected = compute(op, context, inputs)
            step = self.steps.get(label(op))
            if step is None:
                return expected
            assert isinstance(op, Conv | Completing)
            for gate in (step.positions, step.read_positions, step.inputs, step.outputs):
                if gate:
                    masks[gate] = context.masks[gate][0]
            layer = self._layer(op, step, masks, inputs)
            for gate, beside in ((step.inputs, step.outputs), (step.outputs, step.inputs)):
                if gate and slots.of(gate) is None and gate not in layer.decided:
                    job = listing(layer._gate(gate), masks[gate], slots, beside, layer.index_bits, layer.mask_words)
                    model.run(job)
            answer = model.run(layer.job(slots, self.resting, self.seed + number))
            result = layer.written(answer)[None]
            found.append((step.name, int((result != expected[0]).sum()), answer))
            return result

        network = IntegerNetwork(self.program, 1, choose_isa(None), on_rtl)
        results = network.run([image], given)
        reference = IntegerNetwork(self.program, 1, choose_isa(None)).run([image], results.masks)
        pairs = zip(results.outputs, reference.outputs, strict=True)
        to.outputs_equal &= all(np.array_equal(a, b) for a, b in pairs)
        report = simulate_workload(self.workload, results.masks, self.machine, 1)
        for name, wrong, answer in found:
            to.layers.append(self._compared(number, name, wrong, answer, report, to))

    def _layer(
        self, op: Conv | Completing, step: ArrayStep, masks: Mapping[str, np.ndarray], inputs: Sequence[np.ndarray]
    ) -> Layer:
        writer = self.writers.get(step.reads[0]) if op.inputs[0] == step.reads[0] else None
        # Whoever knows the masks with which a map was written can read it without what is closed.
        compact = (
            writer is not None
            and not writer.added
            and bool(writer.positions or writer.outputs)
            and (writer.positions, writer.outputs) == (step.read_positions, step.inputs)
        )
        words = parameters(self.workload, self.machine)["MASK_WORDS"]
        known = (
            step, dict(masks), inputs[0][0], inputs[-1][0] if step.added else None, compact, step.name == self.first,
            self.decided[step.name], self.machine.index_bits, words, self.machine.rows, self.machine.columns,
        )  # fmt: skip
        if isinstance(op, IntegerComplete):
            return CompletedLayer(self.program, op, *known, self.partial[step.name])
        return Layer(self.program, op, *known)

    def _compared(self, image: int, name: str, wrong: int, answer: Answer, report: Report, to: Verified) -> Found:
        line = [line.name for line in report.lines].index(name)
        tables = {"cycles": report.cycles, "words": report.words, "actions": report.actions, "bursts": report.bursts}
        differing, cycles, expected = {}, 0, 0
        bursts = {("bursts", tensor): lines for tensor, lines in answer.lines.items() if not to.not_compared}
        for (group, counter), counted in {**answer.counters, **bursts}.items():
            if (group, counter) == ("cycles", "memory"):
                continue
            simulated = int(tables[group][counter][0, line])
            to.compared += 1
            if group == "cycles":
                cycles, expected = cycles + counted, expected + simulated
            if counted != simulated:
                differing[group, counter] = (counted, simulated)
        return Found(image, name, wrong, cycles, expected, answer.counters["cycles", "memory"], differing)
