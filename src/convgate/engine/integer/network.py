"""Runs a program with 8-bit integers: these by the reference in NumPy, all else natively."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from convgate.engine.integer.masks import executed_macs, spread
from convgate.engine.integer.partial import decided
from convgate.engine.integer.reference import Context, compute
from convgate.engine.program import Completing, Conv, IntegerDecide, Operation, Program, Value, dense_macs, label
from convgate.engine.runtime import Results
from convgate.engine.stretches import Call, Stretch, cut

__all__ = ["IntegerNetwork", "uses_integers"]

Compute = Callable[[Operation, Context, Sequence[np.ndarray]], np.ndarray]
"""What an operation writes, in its context, from its inputs."""

_AT_ONCE = 1 << 18
"""Elements of the largest value of the images that are computed together: what caches hold, more is slower."""


def uses_integers(program: Program) -> bool:
    """Whether any value of a program holds integers."""
    return any(value.element.is_integer for value in program.values)


class IntegerNetwork:
    """An executor (`convgate.engine.runtime.Executor`) of programs with 8-bit integers.

    Operations on integers are computed by their definition, whatever gates close; MACs are counted as executed where
    gates are open, as the native runtime counts them. `compute` may be something else that computes the same.
    """

    def __init__(self, program: Program, threads: int, isa: str, compute: Compute = compute) -> None:
        self.program, self.compute = program, compute
        phases = cut(program, lambda operation: _of_integers(program, operation))
        self._phases = [
            phase if _of_integers(program, phase[0]) else Stretch.of(program, phase, threads, isa) for phase in phases
        ]
        order = [operation for phase in phases for operation in phase]
        self._last = {name: operation for operation in order for name in operation.inputs}

    @property
    def labels(self) -> list[str]:
        """See `Executor`."""
        return [label(operation) for operation in self.program.operations]

    @property
    def bytes(self) -> int:
        """Memory for the feature maps of one sample, all of them at once."""
        return sum(
            value.channels * value.height * value.width * (1 if value.element.is_byte else 4)
            for value in self.program.values
        )

    def explain(self) -> Mapping[str, tuple[int, str]]:
        """What the reference computes: (MACs when every gate is open, why), by layer."""
        return {
            operation.layer: (dense_macs(self.program, operation), "8-bit integers, by the reference in NumPy")
            for operation in self.program.operations
            if isinstance(operation, Conv | Completing) and _of_integers(self.program, operation)
        }

    def run(
        self, inputs: list[np.ndarray], given: Mapping[str, np.ndarray], *, details: bool = False, times: bool = False
    ) -> Results:
        """See `Executor.run`."""
        largest = max(value.channels * value.height * value.width for value in self.program.values)
        at_once = max(1, _AT_ONCE // largest)
        parts = []
        for begin in range(0, len(inputs[0]), at_once):
            some = slice(begin, begin + at_once)
            masks = {name: mask[some] for name, mask in given.items()}
            parts.append(self._run([array[some] for array in inputs], masks, times))
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _run(self, inputs: list[np.ndarray], given: Mapping[str, np.ndarray], times: bool) -> Results:
        program = self.program
        call = _Call(program, inputs, given, times)
        call.compute = self.compute
        for phase in self._phases:
            if isinstance(phase, Stretch):
                call.native(phase)
            else:
                for operation in phase:
                    call.integers(operation)
                    for name in set(operation.inputs):
                        if self._last[name] is operation and name not in program.outputs:
                            del call.known[name]
        return call.results()


def _of_integers(program: Program, operation: Operation) -> bool:
    names = (*operation.inputs, operation.output)
    return any(program.value(name).element.is_integer for name in names if program.has(name))


class _Call(Call):
    compute: Compute

    def integers(self, operation: Operation) -> None:
        start = time.perf_counter()
        inputs = [self.known[name] for name in operation.inputs]
        if isinstance(operation, IntegerDecide):
            self._decide(operation, inputs[0])
        else:
            context = Context(self.program, self._mask, self.masks)
            self.known[operation.output] = self.compute(operation, context, inputs)
        if isinstance(operation, Conv):
            x, out = self.program.value(operation.inputs[0]), self.program.value(operation.output)
            spent = executed_macs(operation, self.program.arrays[operation.weight], self._mask, x, out, self.batch)
            self.macs[:, self.program.layers.index(operation.layer)] += spent
        elif isinstance(operation, Completing):
            out = self.program.value(operation.output)
            weight = self.program.arrays[operation.weight]
            opened = self._mask(operation.gate, out).reshape(self.batch, -1).sum(1, dtype=np.int64)
            self.macs[:, self.program.layers.index(operation.layer)] += opened * weight[0].size
        self.spent(operation, (time.perf_counter() - start) / self.batch)

    def _decide(self, operation: IntegerDecide, sums: np.ndarray) -> None:
        gate = operation.output
        mask, logits = decided(operation, self.program, self.gates[gate], sums)
        self.masks[gate], self.logits[gate] = self.given.get(gate, mask), logits

    def _mask(self, gate: str, value: Value, reach: tuple[int, int] = (0, 0)) -> np.ndarray:
        return spread(self.gates[gate], self.masks[gate], value, reach)

    def results(self) -> Results:
        outputs = [self.known[name] for name in self.program.outputs]
        return Results(outputs, self.masks, self.logits, self.macs, self.seconds if self.times else None, self.total)


def _joined(parts: list[Results]) -> Results:
    def together(arrays: list[np.ndarray | None]) -> np.ndarray | None:
        return None if arrays[0] is None else np.concatenate([array for array in arrays if array is not None])

    first = parts[0]
    return Results(
        [np.concatenate(arrays) for arrays in zip(*(part.outputs for part in parts), strict=True)],
        {name: np.concatenate([part.masks[name] for part in parts]) for name in first.masks},
        {name: np.concatenate([part.logits[name] for part in parts]) for name in first.logits},
        together([part.macs for part in parts]),
        together([part.seconds for part in parts]),
        together([part.total for part in parts]),
    )
