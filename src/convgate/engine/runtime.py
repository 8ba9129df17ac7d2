"""From a program to the native runtime: names become numbers, arrays become memory that it can read."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from convgate.engine import _native  # type: ignore[attr-defined]
from convgate.engine.program import (
    Affine,
    Complete,
    Conv,
    Decide,
    GateKind,
    Mask,
    Operation,
    Pick,
    Pool,
    Program,
    Slice,
)
from convgate.errors import InputError, ProgramError

__all__ = ["NativeNetwork", "Results", "choose_isa", "choose_threads", "instruction_sets"]

_log = logging.getLogger(__name__)


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that this machine can run, best first; `scalar` is the reference of the others."""
    return tuple(_native.instruction_sets())


def choose_isa(asked: str | None) -> str:
    """The instruction set asked for, by the argument or by CONVGATE_ISA, or else the best of this machine."""
    known = instruction_sets()
    name = asked or os.environ.get("CONVGATE_ISA") or known[0]
    if name not in known:
        raise InputError(
            f"instruction set '{name}': this machine has {', '.join(known)}; choose one, or none for the best"
        )
    return name


def choose_threads(asked: int | None) -> int:
    """The number of threads asked for, by the argument or by CONVGATE_THREADS, or else one per available core."""
    value: Any = asked if asked is not None else os.environ.get("CONVGATE_THREADS")
    if value is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        threads = int(value)
    except (TypeError, ValueError):
        threads = 0
    if not 1 <= threads <= 1024:
        raise InputError(f"threads={value!r}: give a number from 1 to 1024, or none for one per core")
    return threads


@dataclass(frozen=True, eq=False)
class Results:
    """What a call of a `NativeNetwork` gives: per output float32 [N, C, H, W], and where asked for the rest.

    `masks` uint8 and `logits` float32 are per gate [N, units, rows, columns], `macs` int64 [N, layers], `seconds`
    float64 [N, operations].
    """

    outputs: list[np.ndarray]
    masks: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]
    macs: np.ndarray | None
    seconds: np.ndarray | None


class NativeNetwork:
    """A program, ready to run. The arrays are copied into the layouts that the kernels want."""

    def __init__(self, program: Program, threads: int, isa: str) -> None:
        numbers = _Numbers(program)
        operations = [numbers.operation(operation) for operation in program.operations]
        _log.info("%d operations with %s kernels on %d thread(s)", len(operations), isa, threads)
        self.program = program
        self._shapes = [v.shape for v in map(program.value, program.outputs)]
        self._gates = numbers.gates
        try:
            self.native = self._build(numbers, operations, threads, isa)
        except ValueError as error:
            raise ProgramError(f"the program does not hold together: {error}") from None
        except RuntimeError as error:
            raise InputError(f"no engine with {threads} threads can be started here ({error}); give fewer") from None

    def _build(self, numbers: "_Numbers", operations: list[dict[str, Any]], threads: int, isa: str) -> Any:
        program = self.program
        return _native.Network(
            values=[v.shape for v in program.values],
            gates=[(g.kind, *g.shape, g.group) for g in program.gates],
            operations=operations,
            inputs=[numbers.values[name] for name in program.inputs],
            outputs=[numbers.values[name] for name in program.outputs],
            layers=len(program.layers),
            threads=threads,
            isa=isa,
        )

    def run(
        self, inputs: list[np.ndarray], given: Mapping[str, np.ndarray], *, details: bool = False, times: bool = False
    ) -> Results:
        """Run a batch of checked inputs, float32 [N, C, H, W]; `given` masks are uint8 [N, units...]."""
        program, batch = self.program, len(inputs[0])
        gates = program.gates if details else ()
        results = Results(
            outputs=[np.empty((batch, *shape), np.float32) for shape in self._shapes],
            masks={g.name: np.empty((batch, *g.shape), np.uint8) for g in gates},
            logits={g.name: np.empty((batch, *g.shape), np.float32) for g in gates},
            macs=np.empty((batch, len(program.layers)), np.int64) if details else None,
            seconds=np.empty((batch, len(program.operations))) if times else None,
        )
        try:
            self.native.run(
                inputs=inputs,
                outputs=results.outputs,
                given={self._gates[name]: mask for name, mask in given.items() if name in self._gates},
                masks=list(results.masks.values()),
                logits=list(results.logits.values()),
                macs=results.macs,
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
        fields: dict[str, Any] = {
            "kind": type(operation).__name__,
            "inputs": [self.values[name] for name in operation.inputs],
            "output": (self.gates if isinstance(operation, Decide) else self.values)[operation.output],
        }
        rest = {key: value for key, value in asdict(operation).items() if key not in ("inputs", "output")}
        special = self._special.get(type(operation))
        return fields | (special(self, operation, rest) if special else rest)

    def _array(self, name: str) -> np.ndarray | None:
        return np.ascontiguousarray(self.program.arrays[name], dtype=np.float32) if name else None

    def _conv(self, operation: Conv, rest: dict[str, Any]) -> dict[str, Any]:
        gates = {key: self.gates[rest[key]] for key in ("positions", "in_channels", "out_channels")}
        arrays = {"weight": self._array(operation.weight), "bias": self._array(operation.bias)}
        return rest | gates | arrays | {"layer": self.layers[operation.layer]}

    def _complete(self, operation: Complete, rest: dict[str, Any]) -> dict[str, Any]:
        arrays = {key: self._array(rest[key]) for key in ("weight", "scale", "shift", "open_scale", "open_shift")}
        numbers = {"layer": self.layers[operation.layer], "gate": self.gates[operation.gate], "groups": operation.parts}
        return rest | arrays | numbers

    def _pick(self, operation: Pick, rest: dict[str, Any]) -> dict[str, Any]:
        return {"channels": list(operation.channels)}

    def _pool(self, operation: Pool, rest: dict[str, Any]) -> dict[str, Any]:
        top, left = operation.padding
        rest["maximum"] = rest.pop("kind") == "max"
        return rest | {"padding": (top, left, top, left)}

    def _affine(self, operation: Affine, rest: dict[str, Any]) -> dict[str, Any]:
        return rest | {"scale": self._array(operation.scale), "shift": self._array(operation.shift)}

    def _decide(self, operation: Decide, rest: dict[str, Any]) -> dict[str, Any]:
        arrays = {key: self._array(rest[key]) for key in ("offset", "scale", "shift")}
        return arrays | {"strict": operation.strict}

    def _mask(self, operation: Mask, rest: dict[str, Any]) -> dict[str, Any]:
        number = self.gates[operation.gate]
        return {"gate": number, "gate_is_spatial": self.program.gates[number].kind == GateKind.SPATIAL}

    def _slice(self, operation: Slice, rest: dict[str, Any]) -> dict[str, Any]:
        return {"begin": operation.begin}

    _special: Mapping[type, Callable[..., dict[str, Any]]] = {
        Complete: _complete,
        Conv: _conv,
        Pick: _pick,
        Pool: _pool,
        Affine: _affine,
        Decide: _decide,
        Mask: _mask,
        Slice: _slice,
    }
