"""The search: forecast on a subset, then on all, and confirm; bisection by passes where forecasts do not converge.

Where the device computes in bfloat16 the search does, at half the time or less; what is confirmed is computed in full.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from convgate.calibration.forecast import MARGIN, REACH, mixed_shifts, mixing_order, needed_shifts
from convgate.calibration.images import Images
from convgate.calibration.measure import Measurement, computes_in_bfloat16, measure
from convgate.calibration.price import Price
from convgate.errors import BudgetError
from convgate.gated import GatedModel, GatedNetwork

__all__ = ["Search"]

_SUBSET = 64
# Images that the search begins with; all are run when it is near.
_FORECASTS = 6
# How often a stage may forecast before it bisects.
_NEAR = 0.02
# Of the budget: as near as the subset needs to come, since it differs from all images by as much.


class _Stop(Exception):  # noqa: N818 -- not an error: the search is over
    """The budget is met, or the passes are used up."""


class Search:
    """Looks for offsets of the gates; keeps the best that a pass over all images confirmed.

    Attributes:
        reached: the mean price with the best offsets, as a share of the dense network's.
        shift: what most units were shifted by.
        passes: over images, subsets included.
        measured: the pass that confirmed the best offsets.

    """

    def __init__(
        self,
        network: GatedNetwork | GatedModel,
        price: Price,
        images: Images,
        budget: float,
        tolerance: float,
        max_passes: int,
        on_pass: Callable[[int, float], None],
        on_batch: Callable[[int], None],
    ) -> None:
        self.network, self.price, self.images = network, price, images
        self.budget, self.tolerance, self.max_passes = budget, tolerance, max_passes
        self.on_pass, self.on_batch = on_pass, on_batch
        self.gates = [gate for _, gate in network.gate_modules()]
        self.before = [gate.offset.clone() for gate in self.gates]
        self.passes, self.reached, self.shift = 0, float("inf"), 0.0
        self.best, self.measured = self.before, Measurement()
        self._limit: int | None = _SUBSET
        # Code around a detector's convolutions may not be made for it.
        whole = isinstance(network, GatedNetwork) and self.gates[0].offset.dtype == torch.float32
        self._rough = whole and computes_in_bfloat16(self.gates[0].offset.device)

    def run(self) -> None:
        """Set the offsets. Raises `BudgetError` where the budget was not hit."""
        try:
            shift = self._forecast(0.0, _FORECASTS, _NEAR)
            self._limit = None
            if self._rough:
                shift = self._forecast(shift, 1, self.tolerance / 3)
            self._rough = False
            self._forecast(shift, _FORECASTS, self.tolerance / 3)
            if not self._met():
                self._bisect()
        except _Stop:
            pass
        self._set(self.best)
        if not self._met():
            used_up = self.passes >= self.max_passes
            remedy = f"more than {self.max_passes} passes (max_passes)" if used_up else "more images"
            raise BudgetError(
                f"calibration to {self.price.words(self.budget)} came to {self.price.words(self.reached)} in "
                f"{self.passes} passes on {self.measured.images} images; allow {remedy}, or a larger tolerance (now "
                f"{self.tolerance})"
            )
        self._centre()

    @torch.no_grad()
    def _centre(self) -> None:
        """Move each gate's threshold to the middle between the logits on its two sides.

        No decision on these images changes, and none depends on how a sum was rounded. By no more than the margin:
        beyond it rounding is no matter.
        """
        for gate, low, high in zip(self.gates, self.measured.below, self.measured.above, strict=True):
            gate.offset -= (max(low, -MARGIN) + min(high, MARGIN)) / 2

    def restore(self) -> None:
        """The offsets as they were."""
        self._set(self.before)

    def _met(self, share: float = 1.0) -> bool:
        return abs(self.reached - self.budget) <= share * self.tolerance * self.budget

    def _forecast(self, shift: float, rounds: int, near: float) -> float:
        """Correct the present offsets by forecasts until a pass is `near`; give up when they do not converge."""
        nearest, worse = float("inf"), 0
        for _ in range(rounds):
            offsets = [gate.offset.clone() for gate in self.gates]
            measured = self._run(offsets, shift)
            distance = abs(measured.share - self.budget)
            near = self.tolerance / 3 if self._confirms else near
            if distance <= near * self.budget:
                if self._confirms:
                    raise _Stop
                return shift
            worse = worse + 1 if distance > nearest / 2 else 0
            nearest = min(nearest, distance)
            if worse == 2:
                break
            shifts, by = needed_shifts(self.network, self.price, measured, self.budget, self.tolerance / 6)
            self._set([offset + more for offset, more in zip(offsets, shifts, strict=True)])
            shift += by
        return shift

    @property
    def _confirms(self) -> bool:
        return self._limit is None and not self._rough

    def _bisect(self) -> None:
        """One shift for all units from where they were; then, where no one shift does it, for the first k of them."""
        low, high = self._bracket()
        while high - low > MARGIN * 1e-3:
            middle = (low + high) / 2
            low, high = (middle, high) if self._probe(middle) < 0 else (low, middle)
        low, high = low - MARGIN, high + MARGIN
        order, few = mixing_order(self.before), 0
        while few < len(order) - 1:
            many = len(order)
            while many - few > 1:
                middle_unit = (few + many) // 2
                few, many = (
                    (middle_unit, many) if self._probe(high, low, middle_unit, order) < 0 else (few, middle_unit)
                )
            # One unit too much (of a gate for a whole map, say): without it there is room for more of the others.
            order = torch.cat([order[:few], order[few + 1 :], order[few : few + 1]])
        # Still a jump (a unit that decides alike for all images): move units against each other, a little, then more.
        generator, width = torch.Generator().manual_seed(0), MARGIN
        while not self._met():
            moved = [
                offset + high + width * (2 * torch.rand(offset.shape, generator=generator) - 1).to(offset)
                for offset in self.before
            ]
            self._run(moved, high)
            width = min(width * 1.5, 1.0)

    def _bracket(self) -> tuple[float, float]:
        """Two shifts, one below the budget and one above."""
        side = self._probe(0.0)
        step, inner = 0.5, 0.0
        while step < REACH:
            outer = step if side < 0 else -step
            if (self._probe(outer) < 0) != (side < 0):
                return (inner, outer) if side < 0 else (outer, inner)
            inner, step = outer, step * 2
        return (inner, REACH) if side < 0 else (-REACH, inner)

    def _probe(self, shift: float, rest: float = 0.0, first: int | None = None, order: Tensor | None = None) -> float:
        """Mean cost minus the budget, with `shift` on the first units (all, if None) and `rest` on the others."""
        shifts = mixed_shifts(self.before, shift, rest, first, order)
        offsets = [offset + more for offset, more in zip(self.before, shifts, strict=True)]
        measured = self._run(offsets, shift)
        if self._met(1 / 3):
            raise _Stop
        return measured.share - self.budget

    def _run(self, offsets: Sequence[Tensor], shift: float) -> Measurement:
        """A pass with these offsets; those that come nearest on all images are kept."""
        if self.passes >= self.max_passes:
            raise _Stop
        self._set(offsets)
        self.passes += 1
        with torch.autocast(self.gates[0].offset.device.type, torch.bfloat16, enabled=self._rough):
            measured = measure(self.network, self.price, self.images.read(self._limit), self.on_batch)
        if self._limit is not None and measured.images < self._limit:
            self._limit = None  # the subset is all there is, too few to save anything
            if self._rough:
                self._rough, self.passes = False, self.passes - 1
                return self._run(offsets, shift)
        self.on_pass(self.passes, measured.share)
        if self._confirms and abs(measured.share - self.budget) < abs(self.reached - self.budget):
            self.shift, self.reached, self.best, self.measured = shift, measured.share, list(offsets), measured
        return measured

    @torch.no_grad()
    def _set(self, offsets: Sequence[Tensor]) -> None:
        for gate, offset in zip(self.gates, offsets, strict=True):
            gate.offset.copy_(offset)
