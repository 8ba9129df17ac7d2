"""Fewer, larger operations: norms folded into convolutions, masks, additions and activations fused into them.

Each pass looks at one operation and the only reader of what it writes. What cannot be fused stays as it is.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convgate.cost import LayerCost
from convgate.engine.lowering.draft import Draft
from convgate.engine.program import (
    Activate,
    Add,
    Affine,
    Complete,
    Conv,
    ConvTranspose,
    Decide,
    FillClosed,
    GateKind,
    Mask,
    Multiply,
    Operation,
)

__all__ = ["IMAGES", "fuse"]

IMAGES = "images"
"""The name of the network's input."""


def fuse(draft: Draft, outputs: frozenset[str], ledger: Mapping[str, LayerCost]) -> None:
    """Fuse what can be, in place. `outputs` are read from outside; `ledger` says which gates a layer depends on."""
    _fill_summands(draft, outputs)
    number = 0
    while number < len(draft.operations):
        # A fused operation is looked at again; the one that went stood before it.
        number += 0 if _fuse_one(draft, number, outputs, ledger) else 1
    for number, operation in enumerate(draft.operations):
        if isinstance(operation, Conv) and operation.layer in ledger:
            draft.update(number, **_skipped(draft, operation, ledger[operation.layer]))
    _name_after_layers(draft, outputs)


def _fill_summands(draft: Draft, outputs: frozenset[str]) -> None:
    """Closed tiles of a branch are filled in what the branch is added to, so that it can still be added at its end.

    Branch and filling are never both other than zero at a position, so the sums stay what they are.
    """
    for number, add in enumerate(draft.operations):
        if not isinstance(add, Add) or add.inputs[0] == add.inputs[1]:
            continue
        for place, name in enumerate(add.inputs):
            fill = next((n for n in range(number) if draft.operations[n].output == name), None)
            filled = None if fill is None else draft.operations[fill]
            other = add.inputs[1 - place]
            shapes = {draft.values[value].shape for value in (*add.inputs, add.output)}
            if fill is None or not isinstance(filled, FillClosed) or name in outputs or len(shapes) > 1:
                continue
            branch, filling = filled.inputs
            if sum(operation.inputs.count(name) for operation in draft.operations) > 1:
                continue
            draft.operations[number] = replace(add, inputs=(branch, name))
            draft.operations.insert(number, replace(filled, inputs=(other, filling)))
            del draft.operations[fill]
            break


def _name_after_layers(draft: Draft, outputs: frozenset[str]) -> None:
    """A convolution's value carries its layer's name, also with other operations fused into it."""
    written = {operation.output for operation in draft.operations}
    bases = {operation.inputs[1] for operation in draft.operations if isinstance(operation, Complete)}
    draft.values = {name: value for name, value in draft.values.items() if name in written | {IMAGES}}
    names = {
        operation.output: operation.layer
        for operation in draft.operations
        if isinstance(operation, Conv | Complete) and operation.output not in outputs | bases
        if operation.layer not in written
    }
    draft.rename({old: new for old, new in names.items() if list(names.values()).count(new) == 1})


def _skipped(draft: Draft, conv: Conv, cost: LayerCost) -> dict[str, Any]:
    """The gates of what the ledger does not count, and how far; a mask stands before any use, if not right there."""
    closed = conv.out_channels or cost.outputs or ""
    depthwise = conv.is_depthwise(draft.values[conv.inputs[0]].channels, draft.values[conv.output].channels)
    # A depthwise convolution reads just the channels that it writes.
    return {
        "positions": conv.positions or cost.positions or "",
        "reach": conv.reach if conv.positions else cost.reach,
        "in_channels": closed if depthwise else cost.inputs or "",
        "out_channels": closed,
    }


def _fuse_one(draft: Draft, number: int, outputs: frozenset[str], ledger: Mapping[str, LayerCost]) -> bool:
    operation = draft.operations[number]
    if not isinstance(operation, Affine | Activate | Mask | Add | Decide):
        return False
    sources: list[int | None] = []
    for name in operation.inputs:
        readers = sum(other.inputs.count(name) for other in draft.operations)
        writer = next((n for n in range(number) if draft.operations[n].output == name), None)
        sources.append(writer if readers == 1 and name not in outputs else None)
    found = [None if source is None else draft.operations[source] for source in sources]
    fused = _fused(draft, operation, found, ledger)
    if fused is None:
        return False
    place, merged = fused
    draft.operations[number] = merged
    source = sources[place]
    assert source is not None
    del draft.operations[source]
    return True


def _fused(
    draft: Draft, operation: Operation, sources: list[Operation | None], ledger: Mapping[str, LayerCost]
) -> tuple[int, Operation] | None:
    """(which source is fused, the operation that does both), or None."""
    for place, source in enumerate(sources):
        merged: Operation | None = None
        if isinstance(operation, Affine) and isinstance(source, Conv):
            merged = _fold(draft, source, operation)
        elif isinstance(operation, Affine) and isinstance(source, ConvTranspose):
            merged = _fold_transposed(draft, source, operation)
        elif isinstance(operation, Affine) and isinstance(source, Complete):
            merged = _normalised(draft, source, operation)
        elif isinstance(operation, Decide) and isinstance(source, Affine):
            merged = _thresholded(draft, source, operation)
        elif (
            isinstance(operation, Activate)
            and isinstance(source, Conv | Complete | ConvTranspose | Affine | Add)
            and not source.activation
        ):
            skips = isinstance(source, Conv) and source.layer in ledger and ledger[source.layer].gated
            if not skips or operation.activation.keeps_zero:
                merged = replace(source, output=operation.output, activation=operation.activation)
        elif isinstance(operation, Mask) and isinstance(source, Conv):
            merged = _masked(draft, source, operation, ledger)
        elif isinstance(operation, Add) and isinstance(source, Conv | Complete):
            merged = _added(draft, source, operation, place, sources)
        if merged is None and isinstance(operation, Mask) and source is not None:
            # What is zero already needs no mask.
            merged = replace(source, output=operation.output) if _is_zero(draft, source, operation) else None
        if merged is not None and source is not None:
            return place, merged
    return None


def _fold(draft: Draft, conv: Conv, norm: Affine) -> Conv | None:
    """The norm's scale into the weights, its shift into the bias."""
    if conv.activation or len(conv.inputs) > 1:
        return None
    scale, shift = (draft.arrays[name].astype(np.float64) for name in (norm.scale, norm.shift))
    if (conv.positions or conv.out_channels) and (shift.any() or not norm.activation.keeps_zero):
        return None  # what is masked would not stay zero
    bias = draft.arrays[conv.bias].astype(np.float64) if conv.bias else np.zeros_like(shift)
    weight = draft.arrays[conv.weight].astype(np.float64) * scale[:, None, None, None]
    # Under names of their own: a layer that is called twice may have a norm after each call.
    names = f"{norm.output}.weight", f"{norm.output}.bias"
    draft.arrays[names[0]] = weight.astype(np.float32)
    draft.arrays[names[1]] = (bias * scale + shift).astype(np.float32)
    return replace(conv, output=norm.output, weight=names[0], bias=names[1], activation=norm.activation)


def _fold_transposed(draft: Draft, conv: ConvTranspose, norm: Affine) -> ConvTranspose | None:
    """As `_fold`; the outputs are the weights' second axis, within their group."""
    if conv.activation:
        return None
    scale, shift = (draft.arrays[name].astype(np.float64) for name in (norm.scale, norm.shift))
    bias = draft.arrays[conv.bias].astype(np.float64) if conv.bias else np.zeros_like(shift)
    weight = draft.arrays[conv.weight].astype(np.float64)
    by_input = np.repeat(scale.reshape(conv.groups, -1), weight.shape[0] // conv.groups, axis=0)
    names = f"{norm.output}.weight", f"{norm.output}.bias"
    draft.arrays[names[0]] = (weight * by_input[:, :, None, None]).astype(np.float32)
    draft.arrays[names[1]] = (bias * scale + shift).astype(np.float32)
    return replace(conv, output=norm.output, weight=names[0], bias=names[1], activation=norm.activation)


def _normalised(draft: Draft, complete: Complete, norm: Affine) -> Complete | None:
    """The norm as what follows the sums, open or not."""
    if complete.activation or len(complete.inputs) > 2:
        return None
    names: dict[str, Any] = {}
    factor, summand = (draft.arrays[name].astype(np.float64) for name in (norm.scale, norm.shift))
    for prefix in ("", "open_"):
        before = getattr(complete, f"{prefix}scale"), getattr(complete, f"{prefix}shift")
        scale = factor * draft.arrays[before[0]] if before[0] else factor
        shift = factor * draft.arrays[before[1]] + summand if before[1] else summand
        for key, array in (("scale", scale), ("shift", shift)):
            names[prefix + key] = f"{norm.output}.{prefix}{key}"
            draft.arrays[names[prefix + key]] = array.astype(np.float32)
    return replace(complete, output=norm.output, activation=norm.activation, **names)


def _thresholded(draft: Draft, norm: Affine, decision: Decide) -> Decide | None:
    """The norm as the decision's own."""
    if draft.gates[decision.output].kind != GateKind.ACTIVATION or decision.scale or norm.activation:
        return None
    return replace(decision, inputs=norm.inputs, scale=norm.scale, shift=norm.shift)


def _masked(draft: Draft, conv: Conv, mask: Mask, ledger: Mapping[str, LayerCost]) -> Conv | None:
    """The mask as the convolution's own, where the ledger agrees that what it closes is not computed."""
    cost = ledger.get(conv.layer)
    if cost is None or len(conv.inputs) > 1 or not conv.activation.keeps_zero:
        return None
    if draft.gates[mask.gate].kind == GateKind.SPATIAL:
        own = (mask.gate, mask.reach)
        fits = (cost.positions, cost.reach) == own and (not conv.positions or (conv.positions, conv.reach) == own)
        return replace(conv, output=mask.output, positions=mask.gate, reach=mask.reach) if fits else None
    fits = cost.outputs == mask.gate and conv.out_channels in ("", mask.gate)
    return replace(conv, output=mask.output, out_channels=mask.gate) if fits else None


def _is_zero(draft: Draft, operation: Operation, mask: Mask) -> bool:
    """Does the operation write zeros wherever the mask is closed?"""
    if isinstance(operation, Conv):
        closed = operation.out_channels == mask.gate or (
            operation.positions == mask.gate and _is_within(operation.reach, mask.reach)
        )
        masked = closed and operation.activation.keeps_zero
        needed = operation.inputs[1:] if masked else None
    elif isinstance(operation, Multiply):
        # The first factor has the size of the product; a second of one position is masked at another resolution.
        needed = operation.inputs[:1]
        if draft.values[operation.inputs[0]].shape != draft.values[operation.output].shape:
            return False
    else:
        same = isinstance(operation, Mask) and operation.gate == mask.gate and _is_within(operation.reach, mask.reach)
        needed = () if same else None
    # Looked up only where it matters: through all inputs, the ways back would double with every residual sum.
    return needed is not None and all(
        any(other.output == name and _is_zero(draft, other, mask) for other in draft.operations) for name in needed
    )


def _is_within(reach: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether what a mask leaves open that is dilated by one is no more than by the other."""
    return reach[0] <= other[0] and reach[1] <= other[1]


def _added(
    draft: Draft, conv: Conv | Complete, add: Add, place: int, sources: list[Operation | None]
) -> Conv | Complete | None:
    """The other summand as the convolution's last input."""
    own = 1 if isinstance(conv, Conv) else 2
    if conv.activation or len(conv.inputs) > own or add.inputs[0] == add.inputs[1]:
        return None
    out, other = draft.values[add.output], draft.values[add.inputs[1 - place]]
    if other.shape != out.shape or draft.values[conv.output].shape != out.shape:
        return None
    rival = sources[1 - place]
    if isinstance(rival, Conv) and rival.positions and not (isinstance(conv, Conv) and conv.positions):
        return None  # the one with closed positions gains from it
    return replace(conv, inputs=(*conv.inputs, add.inputs[1 - place]), output=add.output, activation=add.activation)
