"""A program in stretches: parts that the native runtime runs, between operations that something else computes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from convgate.engine.program import Decide, Gate, Operation, Program, Value, decides, label, reads
from convgate.engine.runtime import NativeNetwork

__all__ = ["Call", "Stretch", "cut"]


def cut(program: Program, elsewhere: Callable[[Operation], bool]) -> list[list[Operation]]:
    """The operations in phases, native and elsewhere by turns: as many at a time as have what they read.

    What is computed elsewhere keeps its order: a step of PyTorch may write to what another reads.
    """
    phases: list[list[Operation]] = []
    known = {("value", name) for name in program.inputs}
    left = list(program.operations)
    native = True
    while left:
        phase: list[Operation] = []
        blocked = False
        for operation in left:
            external = elsewhere(operation)
            ready = {(what, name) for what in ("value", "gate") for name in reads(operation, what)} <= known
            if external == native or (external and blocked) or not ready:
                blocked |= external
                continue
            phase.append(operation)
            known |= {("value", operation.output), *(("gate", gate) for gate in decides(operation))}
        chosen = {id(operation) for operation in phase}
        left = [operation for operation in left if id(operation) not in chosen]
        phases += [phase] if phase else []
        native = not native
    return phases


@dataclass(frozen=True, eq=False)
class Stretch:
    """Native operations between two others; `carried` gates were decided before, `decided` ones are decided in it."""

    network: NativeNetwork
    carried: tuple[Gate, ...]
    decided: tuple[str, ...]

    @classmethod
    def of(cls, program: Program, operations: Sequence[Operation], threads: int, isa: str) -> "Stretch":
        """These operations of a program, ready to run."""
        inside = {operation.output for operation in operations if not isinstance(operation, Decide)}
        decided = tuple(name for operation in operations for name in decides(operation))
        used = {name for operation in operations for name in reads(operation, "gate")} - set(decided)
        carried = tuple(gate for gate in program.gates if gate.name in used)
        read = {name for operation in operations for name in reads(operation, "value")}
        own = {id(operation) for operation in operations}
        elsewhere = {name for op in program.operations if id(op) not in own for name in op.inputs} | set(
            program.outputs
        )
        outputs = tuple(v.name for v in program.values if v.name in inside & elsewhere)
        if not outputs:
            # It only decides; the runtime wants something to give back.
            values = (v for v in program.values if v.name in read)
            outputs = (min(values, key=lambda v: v.channels * v.height * v.width).name,)
        # A carried gate decides again, on logits made from its mask.
        again = [Decide((_carried(gate.name),), gate.name, _carried(gate.name)) for gate in carried]
        logits = [Value(_carried(g.name), g.logit_channels, *g.shape[1:]) for g in carried]
        zeros = {_carried(g.name): np.zeros(g.offset_shape, np.float32) for g in carried}
        inputs = (*sorted(read - inside), *(value.name for value in logits))
        inputs = inputs or program.inputs[:1]  # of constants alone: it tells how many samples there are
        needed = {*inputs, *inside, *outputs}
        part = replace(
            program,
            values=tuple(value for value in (*program.values, *logits) if value.name in needed),
            gates=tuple(gate for gate in program.gates if gate in carried or gate.name in decided),
            operations=(*again, *operations),
            inputs=inputs,
            outputs=outputs,
            arrays={**program.arrays, **zeros},
            vectors=(),
            foreign=(),
            returns=None,
        )
        return cls(NativeNetwork(part, threads, isa), carried, decided)


class Call:
    """One call of an executor that runs stretches: values, masks, logits and counts so far, by name.

    Attributes:
        known: values, [N, C, H, W].
        given: masks that take the place of decisions.
        masks: the masks that are known.
        logits: those of the gates that decided.
        macs: int64 [N, layers].
        seconds: float64 [N, operations].
        total: float64 [N], the seconds of all operations.

    """

    def __init__(
        self, program: Program, inputs: Sequence[np.ndarray], given: Mapping[str, np.ndarray], times: bool
    ) -> None:
        self.program, self.batch, self.given, self.times = program, len(inputs[0]), given, times
        self._inputs = dict(zip(program.inputs, inputs, strict=True))
        self.known = dict(self._inputs)
        self.masks: dict[str, np.ndarray] = {}
        self.logits: dict[str, np.ndarray] = {}
        self.gates = {gate.name: gate for gate in program.gates}
        self.macs = np.zeros((self.batch, len(program.layers)), np.int64)
        self.seconds = np.zeros((self.batch, len(program.operations)))
        self.total = np.zeros(self.batch)
        self._numbers = {label(operation): number for number, operation in enumerate(program.operations)}

    def native(self, stretch: Stretch) -> None:
        """Run a stretch on what is known."""
        for gate in stretch.carried:
            self.known[_carried(gate.name)] = _as_logits(gate, self.masks[gate.name])
        own = {name: mask for name, mask in self.given.items() if name in stretch.decided}
        part = stretch.network.program
        # An input may have been read for the last time.
        inputs = [self._inputs[name] if name in self._inputs else self.known[name] for name in part.inputs]
        results = stretch.network.run(inputs, own, details=True, times=self.times)
        self.known.update(zip(part.outputs, results.outputs, strict=True))
        self.masks.update({name: results.masks[name] for name in stretch.decided})
        self.logits.update({name: results.logits[name] for name in stretch.decided})
        assert results.macs is not None
        self.macs += results.macs
        assert results.total is not None
        self.total += results.total
        if results.seconds is not None:
            for number, operation in enumerate(part.operations):
                self._note(operation, results.seconds[:, number])

    def spent(self, operation: Operation, seconds: float) -> None:
        """Note the seconds for each sample that an operation took that is in no stretch."""
        self.total += seconds
        self._note(operation, seconds)

    def _note(self, operation: Operation, seconds: float | np.ndarray) -> None:
        # A stretch has operations that the program does not have.
        if label(operation) in self._numbers:
            self.seconds[:, self._numbers[label(operation)]] = seconds


def _carried(gate: str) -> str:
    return f"mask of {gate}"


def _as_logits(gate: Gate, mask: np.ndarray) -> np.ndarray:
    masks = mask.reshape(-1, *gate.shape).astype(np.float32)
    return np.repeat(masks, gate.logit_channels // gate.shape[0], axis=1) - 0.5
