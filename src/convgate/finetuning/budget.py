"""A budget of MACs as a constraint: a term for the loss whose weight a controller finds while training."""

import math
from typing import Any

from torch import Tensor

from convgate.errors import InputError
from convgate.gated import GatedNetwork
from convgate.gating import Decision, Decisions, threshold_straight_through

__all__ = ["Budget"]

_STIFFNESS = 80.0
# An error of 0.05 of the dense MACs weighs as much as 4 losses for all of the MACs.
_INTEGRAL = 600.0
# A lasting error of 0.01 makes the multiplier as large as 6 losses in the course of the training.
_BOUND = 40.0
# Of the multiplier, in losses for all of the MACs.
_LEAST_LOSS = 0.2
# A gated network starts whole, with a loss of nothing; the budget must weigh something even so.


class Budget:
    """Holds the mean MACs of a gated network in training at a share of the dense MACs that comes down from 1.

    A fixed weight of a cost term is right for one loss, one network and one budget. Here the term is an augmented
    Lagrangian in the distance e from the share that is due: scale * (multiplier * e + stiffness / 2 * e^2), with the
    loss's own running size as the scale. It pulls from both sides, so that gates that closed too many come back. The
    multiplier is the integral of the error; it stands still at its bounds, and while the target is still running ahead
    of gates that need steps to follow, so it does not wind up.

    The MACs are those of the masks that evaluation would use, whatever noise training adds.

        budget = Budget(0.6)
        for step, images in enumerate(batches):
            logits, decisions = net.decide(images)
            loss = distillation(logits, teacher(images))
            (loss + budget.term(net, decisions, loss, progress=step / steps)).backward()

    Args:
        share: of the dense MACs, gates included, to come down to, in (0, 1].
        ramp: the share of the training in which the target falls from 1 to `share`; it falls fast at first, since the
            first MACs are the cheapest to save.
        temperature: of the sigmoid whose gradient the cost sends into the logits.

    Attributes:
        target: the share due in the last step.
        spent: the share in the last steps, a moving mean; None before the first.
        weight: the slope of the term in the share, in the last step.

    """

    def __init__(self, share: float, *, ramp: float = 0.4, temperature: float = 1.5) -> None:
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share <= 1:
            raise InputError(f"Budget(share={share!r}): the budget is a share of the dense MACs, in (0, 1]")
        if not 0 <= ramp < 1 or not temperature > 0:
            raise InputError(
                f"Budget(ramp={ramp}, temperature={temperature}): ramp lies in [0, 1), temperature above 0"
            )
        self.share, self.ramp, self.temperature = float(share), ramp, temperature
        self.target, self.weight = 1.0, 0.0
        self.spent: float | None = None
        self._multiplier, self._scale, self._progress = 0.0, _LEAST_LOSS, 0.0

    def target_at(self, progress: float) -> float:
        """The share that is due when the share `progress` of the training is done."""
        if progress >= self.ramp:
            return self.share
        return self.share + (1 - self.share) * (1 - progress / self.ramp) ** 1.5

    def term(self, network: GatedNetwork, decisions: Decisions, loss: Tensor, progress: float) -> Tensor:
        """The term to add to `loss`, a scalar; adapts its weight. `progress` is in [0, 1] and does not fall."""
        noise_free = decisions.map(self._without_noise)
        share = network.cost(noise_free).ratio.float().mean()
        self._adapt(float(share.detach()), float(loss.detach()), progress)
        error = share - self.target
        return self._scale * (self._multiplier * error + _STIFFNESS / 2 * error.square())

    def _without_noise(self, name: str, decision: Decision) -> Decision:
        if decision.logits is None:
            return decision
        return Decision(decision.kind, threshold_straight_through(decision.logits, self.temperature), decision.logits)

    def _adapt(self, spent: float, loss: float, progress: float) -> None:
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss}; check the images, the learning rate and the network's weights")
        step = max(progress - self._progress, 0.0)
        self._progress = progress
        self.target = self.target_at(progress)
        self.spent = spent if self.spent is None else 0.9 * self.spent + 0.1 * spent
        self._scale = max(0.95 * self._scale + 0.05 * abs(loss), _LEAST_LOSS)
        error = self.spent - self.target
        if progress >= self.ramp or error < 0:
            moved = self._multiplier + _INTEGRAL * max(min(error, 0.05), -0.05) * step
            self._multiplier = max(min(moved, _BOUND), -_BOUND)
        self.weight = self._scale * (self._multiplier + _STIFFNESS * error)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold for training to go on as if it had not stopped."""
        return {key: value for key, value in vars(self).items() if key not in ("share", "ramp", "temperature")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises `InputError` for anything else."""
        numbers = all(isinstance(v, int | float) or (v is None and key == "spent") for key, v in state.items())
        if state.keys() != self.state_dict().keys() or not numbers:
            raise InputError(f"a budget is to go on from {state}; give what state_dict() of another one returned")
        vars(self).update(state)

    def __repr__(self) -> str:
        spent = "nothing yet" if self.spent is None else f"{self.spent:.3f}"
        return f"Budget({self.share}: due {self.target:.3f}, spent {spent}, weight {self.weight:.3g})"
