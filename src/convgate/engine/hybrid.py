"""An engine some of whose operations PyTorch computes: native stretches, and calls of PyTorch between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from convgate.engine.engine import Engine
from convgate.engine.program import Decide, External, Gate, Operation, Program, Value
from convgate.engine.runtime import NativeNetwork, Results

__all__ = ["HybridEngine"]


class HybridEngine(Engine):
    """Made by `convgate.compile(..., fallback="torch")` where something has no native form. It cannot be saved."""

    def __init__(
        self,
        program: Program,
        externals: Mapping[str, Callable[..., Tensor]],
        *,
        threads: int | None = None,
        isa: str | None = None,
    ) -> None:
        self._externals = externals
        super().__init__(program, threads=threads, isa=isa)

    @property
    def activation_bytes(self) -> int:
        return sum(stretch.network.native.bytes for stretch in self._steps if isinstance(stretch, _Stretch))

    def _build(self) -> None:
        self._steps: list[_Stretch | External] = []
        pending: list[Operation] = []
        for operation in (*self.program.operations, None):
            if operation is not None and not isinstance(operation, External):
                pending.append(operation)
                continue
            if pending:
                self._steps.append(_stretch(self.program, pending, self.threads, self.isa))
                pending = []
            if operation is not None:
                self._steps.append(operation)

    def _execute(
        self, inputs: list[np.ndarray], given: Mapping[str, np.ndarray], *, details: bool = False, times: bool = False
    ) -> Results:
        known = dict(zip(self.program.inputs, inputs, strict=True))
        batch, operations = len(inputs[0]), {op.output: n for n, op in enumerate(self.program.operations)}
        macs = np.zeros((batch, len(self.program.layers)), np.int64)
        seconds = np.zeros((batch, len(operations)))
        masks: dict[str, np.ndarray] = {}
        logits: dict[str, np.ndarray] = {}
        for step in self._steps:
            if isinstance(step, External):
                tensors = (torch.from_numpy(known[name]) for name in step.inputs)
                result = self._externals[step.target](*tensors)
                value = self.program.value(step.output)
                shape = (batch, *value.shape)
                known[step.output] = np.ascontiguousarray(result.numpy(force=True), np.float32).reshape(shape)
                continue
            for gate in step.carried:
                known[_carried(gate.name)] = _as_logits(gate, masks[gate.name])
            own = {name: mask for name, mask in given.items() if name in step.decided}
            program = step.network.program
            results = step.network.run([known[name] for name in program.inputs], own, details=True, times=times)
            known.update(zip(program.outputs, results.outputs, strict=True))
            masks.update({name: results.masks[name] for name in step.decided})
            logits.update({name: results.logits[name] for name in step.decided})
            assert results.macs is not None
            macs += results.macs
            if results.seconds is not None:
                for number, operation in enumerate(program.operations):
                    if operation.output in operations:
                        seconds[:, operations[operation.output]] = results.seconds[:, number]
        outputs = [known[name] for name in self.program.outputs]
        return Results(outputs, masks, logits, macs, seconds)


@dataclass(frozen=True, eq=False)
class _Stretch:
    """Native operations between two calls of PyTorch; `carried` gates were decided by an earlier stretch."""

    network: NativeNetwork
    carried: tuple[Gate, ...]
    decided: tuple[str, ...]


def _stretch(program: Program, operations: Sequence[Operation], threads: int, isa: str) -> _Stretch:
    inside = {operation.output for operation in operations}
    decided = tuple(op.output for op in operations if isinstance(op, Decide))
    gate_fields = ("positions", "in_channels", "out_channels", "gate")
    used = {getattr(operation, key, "") for operation in operations for key in gate_fields}
    carried = tuple(gate for gate in program.gates if gate.name in used and gate.name not in decided)
    read = {name for operation in operations for name in operation.inputs}
    elsewhere = {name for op in program.operations if op not in operations for name in op.inputs} | set(program.outputs)
    # A carried gate decides again, on logits made from its mask.
    again = [Decide((_carried(gate.name),), gate.name, _carried(gate.name)) for gate in carried]
    logits = [Value(_carried(g.name), g.logit_channels, *g.shape[1:]) for g in carried]
    zeros = {_carried(g.name): np.zeros(g.offset_shape, np.float32) for g in carried}
    part = replace(
        program,
        values=(*program.values, *logits),
        gates=tuple(gate for gate in program.gates if gate in carried or gate.name in decided),
        operations=(*again, *operations),
        inputs=(*sorted(read - inside), *(value.name for value in logits)),
        outputs=tuple(v.name for v in program.values if v.name in inside & elsewhere),
        arrays={**program.arrays, **zeros},
        vectors=(),
    )
    return _Stretch(NativeNetwork(part, threads, isa), carried, decided)


def _carried(gate: str) -> str:
    return f"mask of {gate}"


def _as_logits(gate: Gate, mask: np.ndarray) -> np.ndarray:
    masks = mask.reshape(-1, *gate.shape).astype(np.float32)
    return np.repeat(masks, gate.logit_channels // gate.shape[0], axis=1) - 0.5
