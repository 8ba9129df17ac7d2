"""Running a program some of whose operations PyTorch computes: native stretches, and steps of PyTorch between them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convgate.cost import LayerCost
from convgate.engine.outside import Calls, Outside
from convgate.engine.program import Decide, External, Gate, Operation, Program, Value, decides, label, reads
from convgate.engine.runtime import NativeNetwork, Results
from convgate.gating import Decision as Decided
from convgate.gating import Decisions

__all__ = ["Hybrid", "Together"]


@dataclass(frozen=True, eq=False)
class Together:
    """Makes the executor of a program with what PyTorch computes of it."""

    outside: Outside

    def __call__(self, program: Program, threads: int, isa: str) -> "Hybrid":
        return Hybrid(program, self.outside, threads, isa)


class Hybrid:
    """An executor of programs with `External` operations."""

    def __init__(self, program: Program, outside: Outside, threads: int, isa: str) -> None:
        self.program, self.outside = program, outside
        self._phases = [
            _stretch(program, phase, threads, isa) if not isinstance(phase[0], External) else phase
            for phase in _cut(program)
        ]
        order = [operation.target for operation in program.operations if isinstance(operation, External)]
        last = outside.last_readers(order)
        self._forget = {name: [step for step, at in last.items() if at == name] for name in order}

    @property
    def labels(self) -> list[str]:
        """See `Executor`."""
        return [label(operation) for operation in self.program.operations]

    @property
    def bytes(self) -> int:
        """Memory for the feature maps of one sample, without PyTorch's."""
        return sum(phase.network.bytes for phase in self._phases if isinstance(phase, _Stretch))

    def explain(self) -> Mapping[str, tuple[int, str]]:
        """What PyTorch computes: (MACs when every gate is open, why it has no native form), by name."""
        rows = {layer: (_most(cost), "") for layer, cost in self.outside.costs.items()}
        for step, reason in self.outside.reasons.items():
            layer = self.outside.lines.get(step, step)
            rows[layer] = rows.get(layer, (0, ""))[0], reason
        return rows

    def run(
        self, inputs: list[np.ndarray], given: Mapping[str, np.ndarray], *, details: bool = False, times: bool = False
    ) -> Results:
        """As `NativeNetwork.run`; MACs of what PyTorch computes are the ledger's for the decisions that were taken."""
        call = _Call(self.program, self.outside, inputs, given, times)
        for phase in self._phases:
            if isinstance(phase, _Stretch):
                call.native(phase)
            else:
                for operation in phase:
                    assert isinstance(operation, External)
                    call.external(operation)
                    for name in self._forget[operation.target]:
                        if name not in self.program.foreign:
                            call.calls.forget(name)
        return call.results()


class _Call:
    """One call: the values, masks and counts so far. PyTorch's steps read values and masks from here."""

    def __init__(
        self,
        program: Program,
        outside: Outside,
        inputs: list[np.ndarray],
        given: Mapping[str, np.ndarray],
        times: bool,
    ) -> None:
        self.program, self.outside, self.batch, self.given, self.times = program, outside, len(inputs[0]), given, times
        self.known = dict(zip(program.inputs, inputs, strict=True))
        self.masks: dict[str, np.ndarray] = {}
        self.logits: dict[str, np.ndarray] = {}
        self.gates = {gate.name: gate for gate in program.gates}
        self.numbers = {label(operation): number for number, operation in enumerate(program.operations)}
        self.macs = np.zeros((self.batch, len(program.layers)), np.int64)
        self.seconds = np.zeros((self.batch, len(program.operations)))
        masks = {name: torch.from_numpy(mask.astype(np.float32)) for name, mask in given.items()}
        self.calls = Calls(outside, self, {name: masks.get(gate) for name, gate in outside.given.items()})

    def array(self, value: str) -> np.ndarray:
        """See `Supply`."""
        return self.known[value]

    def mask(self, gate: str) -> np.ndarray:
        """See `Supply`."""
        return self.masks[gate]

    def native(self, stretch: "_Stretch") -> None:
        for gate in stretch.carried:
            self.known[_carried(gate.name)] = _as_logits(gate, self.masks[gate.name])
        own = {name: mask for name, mask in self.given.items() if name in stretch.decided}
        part = stretch.network.program
        inputs = [self.known[name] for name in part.inputs]
        results = stretch.network.run(inputs, own, details=True, times=self.times)
        self.known.update(zip(part.outputs, results.outputs, strict=True))
        self.masks.update({name: results.masks[name] for name in stretch.decided})
        self.logits.update({name: results.logits[name] for name in stretch.decided})
        assert results.macs is not None
        self.macs += results.macs
        if results.seconds is not None:
            for number, operation in enumerate(part.operations):
                if label(operation) in self.numbers:
                    self.seconds[:, self.numbers[label(operation)]] = results.seconds[:, number]

    def external(self, operation: External) -> None:
        start = time.perf_counter()
        result = self.calls.result(operation.target)
        for name in operation.decides:
            mask, logits = result
            self.masks[name] = _array(mask, np.uint8)
            if logits is not None:
                self.logits[name] = _array(logits, np.float32)
        if operation.output:
            shape = (self.batch, *self.program.value(operation.output).shape)
            array = _array(result, np.float32).reshape(shape)
            self.known[operation.output] = array.copy() if operation.target in self.outside.copied else array
        self.seconds[:, self.numbers[label(operation)]] = (time.perf_counter() - start) / self.batch

    def results(self) -> Results:
        kinds = self.outside.kinds
        decisions = Decisions((name, Decided(kinds[name], torch.from_numpy(m))) for name, m in self.masks.items())
        for layer, cost in self.outside.costs.items():
            spent = cost.count(decisions, exact=True) if isinstance(cost, LayerCost) and cost.gated else _most(cost)
            self.macs[:, self.program.layers.index(layer)] = spent
        outputs = [self.known[name] for name in self.program.outputs]
        outputs += [_arrays(self.calls.result(name)) for name in self.program.foreign]
        return Results(outputs, self.masks, self.logits, self.macs, self.seconds if self.times else None)


def _most(cost: int | LayerCost) -> int:
    return cost.macs if isinstance(cost, LayerCost) else cost


def _array(tensor: Tensor, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy(force=True), dtype)


def _arrays(result: Any) -> Any:
    """A result of PyTorch's for callers who may not know PyTorch: arrays in tuples and dicts."""
    if isinstance(result, Tensor):
        return result.float().numpy(force=True) if result.dtype == torch.bfloat16 else result.numpy(force=True)
    if isinstance(result, Mapping):
        return {key: _arrays(part) for key, part in result.items()}
    return tuple(_arrays(part) for part in result) if isinstance(result, tuple | list) else result


def _cut(program: Program) -> list[list[Operation]]:
    """The operations in phases, native or PyTorch's by turns: as many at a time as have what they read."""
    phases: list[list[Operation]] = []
    known = {("value", name) for name in program.inputs}
    left = list(program.operations)
    native = True
    while left:
        phase: list[Operation] = []
        blocked = False  # PyTorch's steps keep their order: one may write to what another reads
        for operation in left:
            external = isinstance(operation, External)
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
class _Stretch:
    """Native operations between two calls of PyTorch; `carried` gates were decided before."""

    network: NativeNetwork
    carried: tuple[Gate, ...]
    decided: tuple[str, ...]


def _stretch(program: Program, operations: Sequence[Operation], threads: int, isa: str) -> _Stretch:
    inside = {operation.output for operation in operations if not isinstance(operation, Decide)}
    decided = tuple(name for operation in operations for name in decides(operation))
    used = {name for operation in operations for name in reads(operation, "gate")} - set(decided)
    carried = tuple(gate for gate in program.gates if gate.name in used)
    read = {name for operation in operations for name in reads(operation, "value")}
    own = {id(operation) for operation in operations}
    elsewhere = {name for op in program.operations if id(op) not in own for name in op.inputs} | set(program.outputs)
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
    return _Stretch(NativeNetwork(part, threads, isa), carried, decided)


def _carried(gate: str) -> str:
    return f"mask of {gate}"


def _as_logits(gate: Gate, mask: np.ndarray) -> np.ndarray:
    masks = mask.reshape(-1, *gate.shape).astype(np.float32)
    return np.repeat(masks, gate.logit_channels // gate.shape[0], axis=1) - 0.5
