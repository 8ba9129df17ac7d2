"""From a program to the native runtime: names become numbers, arrays become memory that it can read."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from convgate.engine import _native  # type: ignore[attr-defined]
from convgate.engine.pools import share_pools
from convgate.engine.precision import Precision
from convgate.engine.program import (
    Activation,
    Complete,
    ConvTranspose,
    Decide,
    GateKind,
    IntegerAdd,
    IntegerComplete,
    IntegerConv,
    IntegerConvToFloat,
    IntegerConvToSums,
    IntegerDecide,
    IntegerMean,
    Lookup,
    Mask,
    Operation,
    Pick,
    Pool,
    Program,
    label,
    reference_fields,
)
from convgate.errors import InputError, ProgramError

__all__ = ["Executor", "NativeNetwork", "Results", "choose_isa", "instruction_sets", "seconds_to_share"]

_log = logging.getLogger(__name__)


def instruction_sets(precision: str = "float32") -> tuple[str, ...]:
    """The instruction sets that this machine can run, best first; `scalar` is the reference of the others.

    In bf16 there is "avx512bf16", which has an instruction for it; the others compute on what they widen. In int8 there
    are "avx512vnni" and, for processors without AVX-512, "avxvnni", which have one. On AArch64 there is "neon"; of its
    kernels, "neonbf16" in bf16, "neoni8mm" and "neondot" in int8 have an instruction for it.
    """
    known = {Precision.BF16: _native.bf16_instruction_sets, Precision.INT8: _native.int8_instruction_sets}
    return tuple(known.get(precision, _native.instruction_sets)())  # type: ignore[call-overload]


def seconds_to_share(threads: int) -> float:
    """How long a loop takes that all threads begin and end together and in which they do nothing else.

    It says how near the cores are to each other. A virtual machine's may be hyperthreads of one core, or lie far apart,
    and change places while it runs.
    """
    return float(_native.seconds_to_share(threads))


def choose_isa(asked: str | None, precision: str = "float32") -> str:
    """The instruction set asked for, by the argument or by CONVGATE_ISA, or else the best of this machine."""
    known = instruction_sets(precision)
    name = asked or os.environ.get("CONVGATE_ISA") or known[0]
    if name not in known:
        raise InputError(
            f"instruction set '{name}': this machine has {', '.join(known)}; choose one, or none for the best"
        )
    return name


class Results(NamedTuple):
    """What a call of an `Executor` gives: per output float32 [N, C, H, W], and where asked for the rest.

    Outputs that PyTorch returns (`Program.foreign`) come last, in the shape and type that they have there.

    `masks` uint8 and `logits` float32 are per gate [N, units, rows, columns], `macs` int64 [N, layers], `total`
    float64 [N] the seconds of all operations, `seconds` float64 [N, operations] those of each.
    """

    outputs: list[Any]
    masks: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]
    macs: np.ndarray | None
    seconds: np.ndarray | None
    total: np.ndarray | None = None


class Executor(Protocol):
    """What runs a program at one size: the native runtime alone, or with PyTorch."""

    @property
    def labels(self) -> list[str]:
        """Names of the operations that are run, in the order of `Results.seconds`."""
        ...

    @property
    def bytes(self) -> int:
        """Memory for the feature maps of one sample."""
        ...

    def explain(self) -> Mapping[str, tuple[int, str]]:
        """What is not computed natively, by layer or operation: (MACs when every gate is open, why)."""
        ...

    def run(
        self, inputs: list[np.ndarray], given: Mapping[str, np.ndarray], *, details: bool = False, times: bool = False
    ) -> Results:
        """Run a batch of checked inputs, float32 [N, C, H, W]; `given` masks are uint8 [N, units...].

        `details`: all but `seconds`, for which `times` asks: to time each operation takes 0.05 microseconds.
        """
        ...


_plans: WeakKeyDictionary[Program, WeakValueDictionary[tuple[int, str], "_Plan"]] = WeakKeyDictionary()
"""What is made ready of each program, by number of threads and instruction set, for as long as a network uses it."""


class _Plan:
    """A program made ready: the arrays are copied into the layouts that the kernels want, once for all its networks."""

    def __init__(self, program: Program, threads: int, isa: str) -> None:
        self.program = program = share_pools(program)
        numbers = _Numbers(program)
        operations = [numbers.operation(operation) for operation in program.operations]
        stored = Counter(str(value.element) for value in program.values)
        elements = ", ".join(f"{count} {element}" for element, count in sorted(stored.items()))
        _log.info("%d operations with %s kernels on %d thread(s); values: %s", len(operations), isa, threads, elements)
        self.gates = numbers.gates
        try:
            self.native = _native.Plan(
                values=[(*v.shape, str(v.element), float(v.scale)) for v in program.values],
                gates=[(g.kind, *g.shape, g.group) for g in program.gates],
                operations=operations,
                inputs=[numbers.values[name] for name in program.inputs],
                outputs=[numbers.values[name] for name in program.outputs],
                layers=len(program.layers),
                threads=threads,
                isa=isa,
            )
        except ValueError as error:
            raise ProgramError(f"the program does not hold together: {error}") from None

    @classmethod
    def of(cls, program: Program, threads: int, isa: str) -> "_Plan":
        """The plan that another network has of this program, or a new one."""
        known = _plans.setdefault(program, WeakValueDictionary())
        plan = known.get((threads, isa))
        if plan is None:
            plan = known[threads, isa] = cls(program, threads, isa)
        return plan


class NativeNetwork:
    """A program, ready to run, with threads and memory of its own; its weights are those of its other networks, too."""

    def __init__(self, program: Program, threads: int, isa: str) -> None:
        self._plan = _Plan.of(program, threads, isa)
        self.program = program = self._plan.program
        self._shapes = [v.shape for v in map(program.value, program.outputs)]
        self._gates = self._plan.gates
        try:
            self.native = _native.Network(self._plan.native)
        except RuntimeError as error:
            raise InputError(f"no engine with {threads} threads can be started here ({error}); give fewer") from None

    @property
    def labels(self) -> list[str]:
        """See `Executor`."""
        return [label(operation) for operation in self.program.operations]

    @property
    def bytes(self) -> int:
        """Memory for the feature maps of one sample."""
        return int(self.native.bytes)

    def explain(self) -> Mapping[str, tuple[int, str]]:
        """Nothing: all of it is native."""
        return {}

    def run(
        self, inputs: list[np.ndarray], given: Mapping[str, np.ndarray], *, details: bool = False, times: bool = False
    ) -> Results:
        """See `Executor.run`."""
        program, batch = self.program, len(inputs[0])
        gates = program.gates if details else ()
        results = Results(
            outputs=[np.empty((batch, *shape), np.float32) for shape in self._shapes],
            masks={g.name: np.empty((batch, *g.shape), np.uint8) for g in gates},
            logits={g.name: np.empty((batch, *g.shape), np.float32) for g in gates},
            macs=np.empty((batch, len(program.layers)), np.int64) if details else None,
            seconds=np.empty((batch, len(program.operations))) if times else None,
            total=np.empty(batch) if details else None,
        )
        try:
            self.native.run(
                inputs=inputs,
                outputs=results.outputs,
                given={self._gates[name]: mask for name, mask in given.items() if name in self._gates},
                masks=list(results.masks.values()),
                logits=list(results.logits.values()),
                macs=results.macs,
                total=results.total,
                seconds=results.seconds,
            )
        except ValueError as error:
            raise InputError(f"the engine refuses its input: {error}") from None
        return results


class _Numbers:
    """Operations as dictionaries of numbers and arrays."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.values = {value.name: number for number, value in enumerate(program.values)}
        self.gates = {gate.name: number for number, gate in enumerate(program.gates)} | {"": -1}
        self.layers = {layer: number for number, layer in enumerate(program.layers)}

    def operation(self, operation: Operation) -> dict[str, Any]:
        """Names become what they name; the rest stays, but for what the runtime writes in another way."""
        look_up: dict[str, Callable[[str], Any]] = {
            "value": self.values.__getitem__,
            "gate": self.gates.__getitem__,
            "layer": self.layers.__getitem__,
            "mask": lambda name: -1,  # its size is that of the output
            "array": self._array,
        }
        found: dict[str, Any] = {"kind": type(operation).__name__}
        kinds = reference_fields(type(operation))
        for part in fields(operation):
            entry: Any = getattr(operation, part.name)
            if part.name in kinds:
                look = look_up[kinds[part.name]]
                entry = look(entry) if isinstance(entry, str) else [look(name) for name in entry]
            if isinstance(entry, Activation):
                entry, found["parameters"] = entry.name, list(entry.parameters)
            found[part.name] = entry
        special = self._special.get(type(operation))
        return found | (special(self, operation) if special else {})

    def _array(self, name: str) -> np.ndarray | None:
        if not name:
            return None
        array = self.program.arrays[name]
        # Besides float32 there are halves (uint16), and weights and numbers of integers.
        kept = array.dtype in (np.uint16, np.int8, np.int32)
        return np.ascontiguousarray(array, dtype=array.dtype if kept else np.float32)

    def _complete(self, operation: Complete) -> dict[str, Any]:
        return {"groups": operation.parts}

    def _transposed(self, operation: ConvTranspose) -> dict[str, Any]:
        return {"padding": operation.padding * 2}

    def _decide(self, operation: Decide) -> dict[str, Any]:
        gate = self.program.gates[self.gates[operation.output]]
        offset = self.program.arrays[operation.offset]
        return {"offset": np.ascontiguousarray(np.broadcast_to(offset, gate.offset_shape), dtype=np.float32)}

    def _integer_add(self, operation: IntegerAdd) -> dict[str, Any]:
        return {"kind": "Add", "rescale": list(zip(operation.multipliers, operation.shifts, strict=True))}

    def _integer_conv(self, operation: IntegerConv) -> dict[str, Any]:
        return {"kind": "Conv", "rescale": [(0, 1), operation.addend]}

    def _integer_conv_further(self, operation: IntegerConvToFloat | IntegerConvToSums) -> dict[str, Any]:
        return {"kind": "Conv"}

    def _integer_decide(self, operation: IntegerDecide) -> dict[str, Any]:
        return {"kind": "Decide"}

    def _integer_complete(self, operation: IntegerComplete) -> dict[str, Any]:
        return {"kind": "Complete", "groups": operation.parts, "rescale": [(0, 1), operation.addend]}

    def _integer_mean(self, operation: IntegerMean) -> dict[str, Any]:
        return {"kind": "PoolToGrid"}

    def _lookup(self, operation: Lookup) -> dict[str, Any]:
        return {"table": np.ascontiguousarray(self.program.arrays[operation.table]).view(np.int8)}

    def _pick(self, operation: Pick) -> dict[str, Any]:
        return {"channels": list(operation.channels)}

    def _pool(self, operation: Pool) -> dict[str, Any]:
        top, left = operation.padding
        return {"maximum": operation.kind == "max", "padding": (top, left, top, left), "kind": "Pool"}

    def _mask(self, operation: Mask) -> dict[str, Any]:
        return {"gate_is_spatial": self.program.gates[self.gates[operation.gate]].kind == GateKind.SPATIAL}

    _special: Mapping[type, Callable[..., dict[str, Any]]] = {
        Complete: _complete,
        ConvTranspose: _transposed,
        Decide: _decide,
        IntegerAdd: _integer_add,
        IntegerConv: _integer_conv,
        IntegerComplete: _integer_complete,
        IntegerConvToFloat: _integer_conv_further,
        IntegerConvToSums: _integer_conv_further,
        IntegerDecide: _integer_decide,
        IntegerMean: _integer_mean,
        Lookup: _lookup,
        Mask: _mask,
        Pick: _pick,
        Pool: _pool,
    }
