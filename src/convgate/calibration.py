"""Calibration: shift the gates' logits until the mean cost in evaluation is a given budget."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from convgate.errors import BudgetError, InputError
from convgate.gated import GatedNetwork
from convgate.reading.modes import evaluating
from convgate.reading.trace import check_images

__all__ = ["Calibration", "calibrate"]

_REACH = 1e4
# Logits are never this large, so shifting by it closes or opens every gate.
_MARGIN = 1e-3
# How far apart shifts must be to tell logits apart that are equal up to rounding.


@dataclass(frozen=True)
class Calibration:
    """How a calibration ended: the budget asked for, the one reached (both shares of the dense MACs), the shift."""

    target: float
    reached: float
    shift: float
    passes: int
    images: int


def calibrate(
    network: GatedNetwork,
    batches: Iterable[Any],
    macs: float = 0.5,
    *,
    tolerance: float = 5e-3,
    max_passes: int = 60,
    on_pass: Callable[[int, float], None] = lambda number, share: None,
) -> Calibration:
    """Shift all gate logits by one amount so that the mean evaluation MACs over `batches` are `macs` of the dense MACs.

    Where no one amount does it (many logits alike, as in untrained gates), some gate units are shifted a little less
    than others. The shifts are stored in the gates (`Gate.offset`); the network is changed in place, its mode is not.

    Args:
        network: the gated network.
        batches: images [N, C, H, W] as the network takes them, or tuples that begin with them. They are run several
            times, so all of them are kept in memory.
        macs: target share of the dense MACs, gates included, in (0, 1].
        tolerance: the largest relative distance from the target that counts as hit; the search stops at a fifth of it.
        max_passes: how often the images may be run.
        on_pass: is told of each pass: its number, from 1, and the share of the dense MACs that it came to.

    Raises:
        InputError: a budget outside (0, 1], no images, or images that are not finite.
        BudgetError: the gates cannot reach the budget; the message says what they can.

    """
    if not isinstance(network, GatedNetwork):
        raise InputError(f"calibrate() takes a GatedNetwork, not a {type(network).__name__}; make one with gate()")
    if not isinstance(macs, Real) or not 0 < macs <= 1:
        raise InputError(f"calibrate(macs={macs!r}): the budget is a share of the dense MACs, in (0, 1]")
    images = _images(batches)
    if max_passes < 1 or tolerance < 0:
        raise InputError(f"calibrate(max_passes={max_passes}, tolerance={tolerance}): at least 1 pass, tolerance 0")
    _check_reachable(network, float(macs))
    search = _Search(network, images, float(macs), tolerance, max_passes, on_pass)
    with evaluating(network):
        try:
            shift = search.run()
        except BaseException:
            search.restore()
            raise
    return Calibration(float(macs), search.reached, shift, search.passes, sum(len(batch) for batch in images))


class _Stop(Exception):  # noqa: N818 -- not an error: the search is over
    """The budget is met, or the passes are used up."""


class _Search:
    """Looks for shifts of the gates' offsets; each probe is a pass over the images. Keeps the best."""

    def __init__(
        self,
        network: GatedNetwork,
        images: Sequence[Tensor],
        macs: float,
        tolerance: float,
        max_passes: int,
        on_pass: Callable[[int, float], None],
    ) -> None:
        self.network, self.images = network, images
        self.macs, self.tolerance, self.max_passes = macs, tolerance, max_passes
        self.on_pass = on_pass
        self.gates = [gate for _, gate in network.gate_modules()]
        self.before = [gate.offset.clone() for gate in self.gates]
        self.units = sum(offset.numel() for offset in self.before)
        self.passes, self.reached, self.shift = 0, float("inf"), 0.0
        self.best = self.before

    def run(self) -> float:
        try:
            low, high = self._bracket()
            low, high = self._bisect_shift(low, high)
            self._bisect_units(low - _MARGIN, high + _MARGIN)
        except _Stop:
            pass
        self._set(self.best)
        self._centre()
        if abs(self.reached - self.macs) > self.tolerance * self.macs:
            used_up = self.passes >= self.max_passes
            remedy = f"more than {self.max_passes} passes (max_passes)" if used_up else "more images"
            raise BudgetError(
                f"calibration to {self.macs} of the dense MACs came to {self.reached:.5f} in {self.passes} passes on "
                f"{sum(len(batch) for batch in self.images)} images; allow {remedy}, or a larger tolerance "
                f"(now {self.tolerance})"
            )
        return self.shift

    @torch.no_grad()
    def _centre(self) -> None:
        """Move each gate's threshold to the middle between the logits on its two sides.

        No decision on these images changes, and none depends on how a sum was rounded. By no more than the margin:
        beyond it rounding is no matter.
        """
        below, above = [-_MARGIN] * len(self.gates), [_MARGIN] * len(self.gates)
        for batch in self.images:
            _, decisions = self.network.decide(batch.to(self.before[0].device))
            for number, decision in enumerate(decisions.values()):
                assert decision.logits is not None
                open_ = decision.mask > 0
                far = torch.full_like(decision.logits, _REACH)
                below[number] = max(below[number], float(torch.where(open_, -far, decision.logits).max()))
                above[number] = min(above[number], float(torch.where(open_, decision.logits, far).min()))
        for gate, low, high in zip(self.gates, below, above, strict=True):
            gate.offset -= (low + high) / 2

    def restore(self) -> None:
        self._set(self.before)

    def _bracket(self) -> tuple[float, float]:
        """Two shifts, one below the budget and one above."""
        side = self._probe(0.0)
        step, inner = 0.5, 0.0
        while step < _REACH:
            outer = step if side < 0 else -step
            if (self._probe(outer) < 0) != (side < 0):
                return (inner, outer) if side < 0 else (outer, inner)
            inner, step = outer, step * 2
        return (inner, _REACH) if side < 0 else (-_REACH, inner)

    def _bisect_shift(self, low: float, high: float) -> tuple[float, float]:
        while high - low > _MARGIN / 4:
            middle = (low + high) / 2
            low, high = (middle, high) if self._probe(middle) < 0 else (low, middle)
        return low, high

    def _bisect_units(self, low: float, high: float) -> None:
        """Shift the first k gate units by `high` and the others by `low`; look for k."""
        few, many = 0, self.units
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (middle, many) if self._probe(high, low, middle) < 0 else (few, middle)

    def _probe(self, shift: float, rest: float = 0.0, first: int | None = None) -> float:
        """Mean cost minus the budget, with `shift` on the first units (all, if None) and `rest` on the others."""
        if self.passes >= self.max_passes:
            raise _Stop
        # Units are dealt with in an order that mixes gates, so that the last ones to differ are spread thinly.
        order = torch.randperm(self.units, generator=torch.Generator().manual_seed(0))
        shifts = torch.full((self.units,), rest)
        shifts[order[: self.units if first is None else first]] = shift
        parts = shifts.split([offset.numel() for offset in self.before])
        offsets = [o + part.to(o.device).view_as(o) for o, part in zip(self.before, parts, strict=True)]
        self._set(offsets)
        self.passes += 1
        ratio = self._mean_ratio()
        self.on_pass(self.passes, ratio)
        if abs(ratio - self.macs) < abs(self.reached - self.macs):
            self.shift, self.reached, self.best = shift, ratio, offsets
        if abs(self.reached - self.macs) <= self.tolerance * self.macs / 5:
            raise _Stop
        return ratio - self.macs

    def _set(self, offsets: Sequence[Tensor]) -> None:
        for gate, offset in zip(self.gates, offsets, strict=True):
            gate.offset.copy_(offset)

    @torch.no_grad()
    def _mean_ratio(self) -> float:
        total, count = 0, 0
        device = self.before[0].device
        for batch in self.images:
            _, decisions = self.network.decide(batch.to(device))
            total += int(self.network.cost(decisions).macs.sum())
            count += len(batch)
        return total / count / self.network.ledger.dense


def _images(batches: Iterable[Any]) -> list[Tensor]:
    if not isinstance(batches, Iterable) or isinstance(batches, str | Mapping):
        raise InputError(f"calibrate() was given a {type(batches).__name__}; give a list or loader of image batches")
    images = [batch[0] if isinstance(batch, tuple | list) and batch else batch for batch in batches]
    if not images:
        raise InputError("calibrate() was given no images; give at least one batch")
    for number, batch in enumerate(images):
        check_images(batch, f"batch {number} for calibrate()")
        if not bool(torch.isfinite(batch).all()):
            raise InputError(f"batch {number} for calibrate() holds values that are not finite; check the images")
    return images


def _check_reachable(network: GatedNetwork, macs: float) -> None:
    least = float(network.cost(network.closed_decisions(1)).ratio)
    if macs < least:
        raise BudgetError(
            f"{macs} of the dense MACs cannot be reached: with every gate closed {least:.4f} are spent, on layers "
            "that have no gate and on the gates themselves; ask for more, or gate more sites (see print(net.plan))"
        )
