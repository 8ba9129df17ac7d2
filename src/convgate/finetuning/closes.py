"""Units close for good, in rounds, and layers make up for them; between the rounds the weights learn."""

import copy
import dataclasses
import time
from typing import Any

import torch
from torch import Tensor

from convgate.finetuning.closing import Closing
from convgate.finetuning.descent import MANY, WHOLE, Given, share_of
from convgate.finetuning.judge import Judgement, judge
from convgate.finetuning.parameters import hold_gates
from convgate.gating import Decisions
from convgate.reading.modes import evaluating

__all__ = ["ClosesForGood"]


class ClosesForGood:
    """The descent of a network that starts whole and has gates of channels for most of its MACs."""

    def __init__(self, given: Given, closing: Closing) -> None:
        self.given, self.closing = given, closing
        self.rounds, self.round_seconds, self.measuring, self.points = 0, 0.0, 0.0, list[Judgement]()

    @classmethod
    def of(cls, given: Given) -> "ClosesForGood | None":
        """Of a network that can come down to its budget so; else None."""
        if not given.settings.rounds:
            return None
        network, images = given.network, given.data.calibrated_on[0]
        whole = copy.deepcopy(network).eval().requires_grad_(False)
        closing = Closing(network, whole, (images.shape[2], images.shape[3]))
        with torch.no_grad(), evaluating(network):
            _, decisions = network.decide(images)
        starts_whole = float(network.cost(decisions).ratio.min()) > WHOLE
        fits = starts_whole and closing.units >= MANY and closing.least() < given.budget.share
        return cls(given, closing) if fits else None

    def start(self, before: Judgement) -> None:
        """Nothing: the first round finds out what is missed least."""

    def begin(self) -> None:
        """Gates decide by what has closed, and learn nothing."""
        hold_gates(self.given.network)

    def before_step(self, progress: float, elapsed: float) -> None:
        """Close some more, where a round is due: they are spread over the ramp, from when costs are measured."""
        due = self._along_the_ramp(self.rounds / self.given.settings.rounds)
        if self.closing.share() > self.given.budget.share and progress >= due:
            self._round(self._rounds_left(elapsed))

    def rate(self) -> float:
        """The whole rate: a round is over when the weights begin to learn."""
        return 1.0

    def term(self, decisions: Decisions, loss: Tensor, progress: float) -> tuple[Tensor, float, float]:
        """The budget is met by rounds, so that the loss needs no term."""
        share = share_of(self.given.network, decisions)
        return loss.new_zeros(()), share, share

    def finish(self) -> None:
        """A last round, where there was no time for it. What closed costs every image the same: no calibration."""
        if self.closing.share() > self.given.budget.share:
            self._round(1)

    def curve(self, after: Judgement) -> list[Judgement]:
        """What stayed on the way: before each round, what was learned since the last; all on the same images."""
        data = self.given.data
        some = data.some_held_out()
        if len(some) < len(data.held_out):
            after = judge(self.given.network, self.given.teacher, some)
        return [*self.points, after]

    def state_dict(self) -> dict[str, Any]:
        """Units, rounds, and what stayed after them."""
        return {
            "closing": self.closing.state_dict(),
            "rounds": self.rounds,
            "round_seconds": self.round_seconds,
            "measuring": self.measuring,
            "points": [dataclasses.asdict(point) for point in self.points],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.closing.load_state_dict(state["closing"])
        self.rounds, self.round_seconds, self.measuring = state["rounds"], state["round_seconds"], state["measuring"]
        self.points = [Judgement(**point) for point in state["points"]]

    def _round(self, left: int) -> None:
        """Close some more units, of what is to close in so many rounds, and let layers make up for it."""
        given = self.given
        torch.manual_seed(given.seed * 7_368_787 - 1 - self.rounds)  # steps count from 0 up
        if self.rounds:
            self.points.append(judge(given.network, given.teacher, given.data.some_held_out()))
        begun = time.monotonic()
        spent = self.closing.share()
        goal = spent - (spent - given.budget.share) / left
        self.closing.close_to(goal, given.data.to_close_on(self.rounds))
        self.rounds += 1
        self.round_seconds = time.monotonic() - begun - self.closing.costs.seconds  # measuring is done once
        self.measuring += self.closing.costs.seconds
        self.closing.costs.seconds = 0.0
        judged = judge(given.network, given.teacher, given.data.some_held_out())
        given.say(f"round {self.rounds} of closing ({self.round_seconds:.0f} s): {judged}")

    def _rounds_left(self, elapsed: float) -> int:
        """How many rounds there are still to be; fewer where they take long: half of the ramp is for learning."""
        settings, seconds = self.given.settings, self.given.seconds
        left = max(settings.rounds - self.rounds, 1)
        if seconds is None or not self.round_seconds:
            return left
        time_left = self._along_the_ramp(1.0) * seconds - elapsed
        return max(min(left, int(time_left / (2 * self.round_seconds))), 1)

    def _along_the_ramp(self, share: float) -> float:
        """How much of the training is over when that share of the ramp is.

        The ramp is of the time that is left once costs are measured: a slow machine would close all at once otherwise.
        """
        seconds = self.given.seconds
        measured = self.measuring / seconds if seconds else 0.0
        return measured + self.given.settings.ramp * (1 - measured) * share
