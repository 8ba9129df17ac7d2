"""Gates learn what to close under a budget that comes down from 1; then they are calibrated and held."""

from typing import Any

from torch import Tensor

from convgate.calibration import calibrate
from convgate.finetuning.anneal import set_noise
from convgate.finetuning.descent import MANY, WHOLE, Given, share_of
from convgate.finetuning.importance import order_gates
from convgate.finetuning.judge import Judgement, curve
from convgate.finetuning.parameters import hold_gates
from convgate.gating import Decisions

__all__ = ["LearnsToClose"]

_EARLIER = 2.0
# Weights learn at their full rate when gates have come half the way.


class LearnsToClose:
    """The descent of any gated network."""

    closing: None = None

    def __init__(self, given: Given) -> None:
        self.given, self.held = given, False

    def start(self, before: Judgement) -> None:
        """Order the gates, so that what is missed least closes first, where they have closed nothing yet."""
        network, spread = self.given.network, self.given.settings.order
        units = sum(gate.offset.numel() for _, gate in network.gate_modules())
        # Nothing that gates learned is lost so.
        if spread and before.share > WHOLE and units >= MANY:
            order_gates(network, self.given.data.calibrated_on, spread=spread)

    def begin(self) -> None:
        """Gates learn, if they are not held yet."""
        if self.held:
            hold_gates(self.given.network)

    def before_step(self, progress: float, elapsed: float) -> None:
        """Set the noise; for the last part calibrate and hold the gates."""
        settings = self.given.settings
        if not self.held and progress >= 1 - settings.finish:
            self._calibrate()
            hold_gates(self.given.network)
            self.held = True
        if not self.held:
            fade = max(1 - progress / settings.noise, 0.0) if settings.noise else 0.0
            set_noise(self.given.network, settings.noise_from * fade, settings.gate_temperature)

    def rate(self) -> float:
        """As far as gates have closed: while nothing is lost, Adam makes full steps of mere noise."""
        budget = self.given.budget
        spent = 1.0 if budget.spent is None else budget.spent
        return min(max(_EARLIER * (1 - spent) / max(1 - budget.share, 1e-6), 0.0), 1.0)

    def term(self, decisions: Decisions, loss: Tensor, progress: float) -> tuple[Tensor, float, float]:
        """The budget's, while gates learn."""
        budget = self.given.budget
        if self.held:
            share = share_of(self.given.network, decisions)
            return loss.new_zeros(()), share, budget.target
        added = budget.term(self.given.network, decisions, loss, progress)
        assert budget.spent is not None
        return added, budget.spent, budget.target

    def finish(self) -> None:
        """Calibrate once more: the weights have learned since."""
        self._calibrate()

    def curve(self, after: Judgement) -> list[Judgement]:
        """What stays at several budgets by calibration alone."""
        given = self.given
        data, points = given.data, given.settings.points
        return curve(given.network, given.teacher, data.calibrated_on, data.held_out, given.budget.share, points)

    def state_dict(self) -> dict[str, Any]:
        """Whether gates are held."""
        return {"held": self.held}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.held = state["held"]

    def _calibrate(self) -> None:
        calibrate(self.given.network, self.given.data.calibrated_on, self.given.budget.share, agreement=False)
