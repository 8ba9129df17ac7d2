"""Running a program some of whose operations PyTorch computes: native stretches, and steps of PyTorch between them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convgate.cost import LayerCost
from convgate.engine.outside import Calls, Outside
from convgate.engine.program import External, Program, label
from convgate.engine.runtime import Results
from convgate.engine.stretches import Call, Stretch, cut
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
            phase if isinstance(phase[0], External) else Stretch.of(program, phase, threads, isa)
            for phase in cut(program, lambda operation: isinstance(operation, External))
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
        return sum(phase.network.bytes for phase in self._phases if isinstance(phase, Stretch))

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
            if isinstance(phase, Stretch):
                call.native(phase)
            else:
                for operation in phase:
                    assert isinstance(operation, External)
                    call.external(operation)
                    for name in self._forget[operation.target]:
                        if name not in self.program.foreign:
                            call.calls.forget(name)
        return call.results()


class _Call(Call):
    """One call; PyTorch's steps read values and masks from here."""

    def __init__(
        self,
        program: Program,
        outside: Outside,
        inputs: list[np.ndarray],
        given: Mapping[str, np.ndarray],
        times: bool,
    ) -> None:
        super().__init__(program, inputs, given, times)
        self.outside = outside
        masks = {name: torch.from_numpy(mask.astype(np.float32)) for name, mask in given.items()}
        self.calls = Calls(outside, self, {name: masks.get(gate) for name, gate in outside.given.items()})

    def array(self, value: str) -> np.ndarray:
        """See `Supply`."""
        return self.known[value]

    def mask(self, gate: str) -> np.ndarray:
        """See `Supply`."""
        return self.masks[gate]

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
        self.spent(operation, (time.perf_counter() - start) / self.batch)

    def results(self) -> Results:
        kinds = self.outside.kinds
        decisions = Decisions((name, Decided(kinds[name], torch.from_numpy(m))) for name, m in self.masks.items())
        for layer, cost in self.outside.costs.items():
            spent = cost.count(decisions, exact=True) if isinstance(cost, LayerCost) and cost.gated else _most(cost)
            self.macs[:, self.program.layers.index(layer)] = spent
        outputs = [self.known[name] for name in self.program.outputs]
        outputs += [_arrays(self.calls.result(name)) for name in self.program.foreign]
        return Results(outputs, self.masks, self.logits, self.macs, self.seconds if self.times else None, self.total)


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
