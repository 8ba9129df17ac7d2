"""Which shifts would bring the cost to the budget, if the logits of one pass stayed what they are.

They do not quite: a gate reads features that earlier gates masked. But they nearly do, and asking the ledger or a
latency model what masks cost takes a hundredth of what it takes to run the network. So a pass is spent on confirming,
not on searching.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from convgate.calibration.measure import Measurement, decide_as
from convgate.calibration.price import Price
from convgate.gated import GatedModel, GatedNetwork
from convgate.gating import Decision

__all__ = ["MARGIN", "REACH", "mixed_shifts", "mixing_order", "needed_shifts"]

REACH = 1e4
"""Logits are never this large, so shifting by it closes or opens every gate."""
MARGIN = 1e-3
"""How far apart shifts must be to tell logits apart that are equal up to rounding."""


def needed_shifts(
    network: GatedNetwork | GatedModel, price: Price, measured: Measurement, budget: float, precision: float
) -> tuple[list[Tensor], float]:
    """What to add to the gates' offsets, one tensor for each gate, and the shift that it is for most units.

    Args:
        network: the gated network.
        price: what decisions cost.
        measured: a pass with the present offsets.
        budget: the share of the dense network's price to come to.
        precision: the relative distance from it that is near enough.

    """
    gates = dict(network.gate_modules())
    offsets = [gate.offset for gate in gates.values()]
    # What is held is a part of the images; how its mean differs from that of all is taken to stay.
    target = budget - (measured.share - measured.held_share)
    images = sum(decisions.batch_size for decisions in measured.held)

    def excess(shifts: Sequence[Tensor]) -> float:
        total = 0.0
        for held in measured.held:
            shift = dict(zip(held, shifts, strict=True))
            masks = held.map(
                lambda name, d, by=shift: Decision(d.kind, decide_as(gates[name], _logits(d) + by[name]))  # type: ignore[misc]
            )
            total += price.total(masks)
        return total / images - target

    near = precision * budget
    low, high = _bracket(lambda s: excess(_same(offsets, s)), measured.held_share - target)
    while high - low > MARGIN * 1e-3 * max(1.0, abs(low)):
        middle = (low + high) / 2
        if abs(found := excess(_same(offsets, middle))) <= near:
            return _same(offsets, middle), middle
        low, high = (middle, high) if found < 0 else (low, middle)
    # Many logits alike flip at once: some units are shifted a little less than others.
    few, many = 0, sum(offset.numel() for offset in offsets)
    low, high = low - MARGIN, high + MARGIN
    while many - few > 1:
        middle = (few + many) // 2
        found = excess(mixed_shifts(offsets, high, low, middle))
        if abs(found) <= near:
            few = middle
            break
        few, many = (middle, many) if found < 0 else (few, middle)
    return mixed_shifts(offsets, high, low, few), high


def mixing_order(offsets: Sequence[Tensor]) -> Tensor:
    """A fixed order of the gates' units that mixes gates, so that the last units to differ are spread thinly."""
    units = sum(offset.numel() for offset in offsets)
    return torch.randperm(units, generator=torch.Generator().manual_seed(0))


def mixed_shifts(
    offsets: Sequence[Tensor],
    shift: float,
    rest: float = 0.0,
    first: int | None = None,
    order: Tensor | None = None,
) -> list[Tensor]:
    """`shift` for the first units in `order` (for all, if `first` is None), `rest` for others, shaped as they are."""
    units = sum(offset.numel() for offset in offsets)
    order = mixing_order(offsets) if order is None else order
    shifts = torch.full((units,), rest)
    shifts[order[: units if first is None else first]] = shift
    parts = shifts.split([offset.numel() for offset in offsets])
    return [part.to(o.device, o.dtype).view_as(o) for o, part in zip(offsets, parts, strict=True)]


def _bracket(excess: Callable[[float], float], now: float) -> tuple[float, float]:
    """Two shifts, one with a cost below the budget and one above."""
    inner, step = 0.0, 0.5
    while step < REACH:
        outer = step if now < 0 else -step
        if (excess(outer) < 0) != (now < 0):
            break
        inner, step = outer, step * 2
    outer = step if now < 0 else -step
    return (inner, outer) if now < 0 else (outer, inner)


def _same(offsets: Sequence[Tensor], shift: float) -> list[Tensor]:
    return [torch.full_like(offset, shift) for offset in offsets]


def _logits(decision: Decision) -> Tensor:
    assert decision.logits is not None
    return decision.logits
