"""How gates' masks and what gates read follow the size of a map: said once all operations of a program are known."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from convgate.engine.lowering.draft import Draft
from convgate.engine.program import Complete, Decide, Gate, PoolToGrid, reads
from convgate.engine.sizes import mask_shape
from convgate.gating.kinds import Activations, Tiles

__all__ = ["place_gates"]


def place_gates(draft: Draft, specs: Mapping[str, Any]) -> None:
    """Name, for each gate, a map that its mask is for, and mark what is averaged to the grid of its mask.

    `specs` are the gates' `GateSpec`s.
    """
    for name, spec in specs.items():
        gate = draft.gates.get(name)
        if gate is None:
            continue
        sides = (0, 0)
        if isinstance(spec.kind, Tiles) and spec.kind.side is not None:
            sides = spec.kind.side if isinstance(spec.kind.side, tuple) else (spec.kind.side, spec.kind.side)
        if sides != (0, 0) or isinstance(spec.kind, Activations):
            draft.gates[name] = replace(gate, sides=sides, on=_map(draft, replace(gate, sides=sides)))
        if sides != (0, 0):
            _mark_pool(draft, name)


def _map(draft: Draft, gate: Gate) -> str:
    """A value to which the gate is applied and from whose size its mask's follows, or "" where there is none left."""
    for operation in reversed(draft.operations):
        if gate.name in reads(operation, "gate") and operation.output in draft.values:
            value = draft.values[operation.output]
            if mask_shape(gate, (value.height, value.width)) == gate.shape:
                return value.name
    return ""


def _mark_pool(draft: Draft, gate: str) -> None:
    """The average over tiles from which the gate's head computes its logits."""
    writers = {op.output: number for number, op in enumerate(draft.operations) if not isinstance(op, Decide)}
    todo = [name for op in draft.operations if isinstance(op, Decide) and op.output == gate for name in op.inputs]
    while todo:
        name = todo.pop()
        if name not in writers:
            continue
        operation = draft.operations[writers[name]]
        if isinstance(operation, PoolToGrid):
            value = draft.values[operation.output]
            if (value.height, value.width) == draft.gates[gate].shape[1:]:
                draft.update(writers[name], mask=gate, grid=(0, 0))
        elif not isinstance(operation, Complete):
            todo += operation.inputs
