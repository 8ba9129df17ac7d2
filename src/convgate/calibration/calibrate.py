"""`calibrate`, and what it reports."""

import logging
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from convgate.calibration.images import Images
from convgate.calibration.measure import open_answers
from convgate.calibration.search import Search
from convgate.errors import BudgetError, InputError
from convgate.gated import GatedModel, GatedNetwork
from convgate.reading.modes import evaluating

__all__ = ["Calibration", "calibrate"]

_COMPARED = 100
# Images on which the answers are compared with those of the network with every gate open.
_COLLAPSED = 0.8
# Below this agreement a warning is logged.


@dataclass(frozen=True)
class Calibration:
    """How a calibration ended.

    `target` and `reached` are shares of the dense MACs, `shift` is what was added to most logits, `passes` counts runs
    over the images (the first ones over a subset). `agreement` is the share of the images (of the first 100 or so, if
    there are more) whose top class is the one of the network with every gate open; None where the output has no
    classes, or where it was not asked for.
    """

    target: float
    reached: float
    shift: float
    passes: int
    images: int
    agreement: float | None = None


def calibrate(
    network: GatedNetwork | GatedModel,
    batches: Iterable[Any],
    budget: float = 0.5,
    *,
    macs: float | None = None,
    tolerance: float = 5e-3,
    max_passes: int = 60,
    agreement: bool = True,
    on_pass: Callable[[int, float], None] | None = None,
) -> Calibration:
    """Shift all gate logits by one amount so that the mean MACs in evaluation are `budget` of the dense MACs.

    If no single amount does it, because many logits are equal, as in untrained gates, some gate units are shifted a
    little less than others. The shifts are stored in the gates (`Gate.offset`); the network is changed in place, its
    mode is not.

    It does not train: what untrained gates close is lost to the network. `agreement` says how many answers stayed the
    same, and a warning is logged (logger "convgate") if most did not.

    Args:
        network: the gated network.
        batches: images [N, C, H, W] as the network takes them, or tuples that begin with them; for a detector, lists of
            images [C, H, W] of any sizes, or tuples that begin with such lists. A list or a loader is
            read again in each pass, so memory does not grow with the number of images; what an iterator yields is kept.
        budget: target share of the dense MACs, as the mean over `batches`, gates included, in (0, 1].
        macs: another name of `budget`.
        tolerance: the largest relative distance from the target that counts as hit; the search stops at a third of it.
        max_passes: how often the images may be run.
        agreement: compare the answers with those of the network with every gate open, which takes a pass.
        on_pass: is told of each pass: its number, from 1, and the share of the dense MACs that it came to. Without it,
            progress is shown on a terminal.

    Raises:
        InputError: a budget outside (0, 1], no images, or images, logits or outputs that are not finite.
        BudgetError: the gates cannot reach the budget; the message says what they can.

    """
    budget = budget if macs is None else macs
    if not isinstance(network, GatedNetwork | GatedModel):
        raise InputError(f"calibrate() takes a GatedNetwork, not a {type(network).__name__}; make one with gate()")
    if not isinstance(budget, Real) or not 0 < budget <= 1:
        raise InputError(f"calibrate(budget={budget!r}): the budget is a share of the dense MACs, in (0, 1]")
    if max_passes < 1 or tolerance < 0:
        raise InputError(
            f"calibrate(max_passes={max_passes}, tolerance={tolerance}): give at least 1 pass and a tolerance of at "
            "least 0"
        )
    images = Images(batches, lists=isinstance(network, GatedModel))
    _check_reachable(network, float(budget))
    progress = _Progress(float(budget), shown=on_pass is None and sys.stderr.isatty())
    search = Search(
        network, images, float(budget), tolerance, max_passes, on_pass or progress.on_pass, progress.on_batch
    )
    kept = None
    with evaluating(network):
        try:
            search.run()
            answers = search.measured.answers
            if agreement and answers is not None:
                opened = open_answers(network, images.read(_COMPARED))
                kept = float((answers[: len(opened)] == opened).double().mean())
        except BaseException:
            search.restore()
            raise
        finally:
            progress.end()
    if kept is not None and kept < _COLLAPSED:
        logging.getLogger("convgate").warning(
            "calibrated to %.1f %% of the dense MACs, the network keeps %.1f %% of the answers that it gives with all "
            "gates open. If its gates were not trained to be closed, train it at this budget (convgate.finetune), or "
            "ask for a larger one; if they were, only its accuracy says how good it is",
            100 * search.reached,
            100 * kept,
        )
    return Calibration(float(budget), search.reached, search.shift, search.passes, search.measured.images, kept)


class _Progress:
    """One line on the terminal that is written over and over: the pass, how far it is, what the last one came to."""

    def __init__(self, budget: float, *, shown: bool) -> None:
        self.budget, self.shown = budget, shown
        self.start = self.begun = self.said = time.monotonic()
        self.number, self.longest, self.came_to = 1, 0, ""

    def on_batch(self, images: int) -> None:
        now = time.monotonic()
        if not self.shown or now - self.said < 0.5:
            return
        self.said = now
        rate = images / max(now - self.begun, 1e-9)
        # Most searches take two passes over all images, and a third for the agreement.
        left = f", about {3 * self.longest / rate:.0f} s a calibration" if self.longest > images else ""
        self._write(f"pass {self.number}: {images} images, {rate:.1f} a second{left}{self.came_to}")
        self.longest = max(self.longest, images)

    def on_pass(self, number: int, share: float) -> None:
        self.came_to = f"; pass {number} came to {share:.1%} of the dense MACs (budget {self.budget:.1%})"
        self.number, self.begun = number + 1, time.monotonic()
        self._write(f"{self.begun - self.start:.0f} s{self.came_to}")

    def end(self) -> None:
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def _write(self, text: str) -> None:
        if self.shown:
            sys.stderr.write(f"\r\033[Kcalibrating: {text}")
            sys.stderr.flush()


def _check_reachable(network: GatedNetwork | GatedModel, budget: float) -> None:
    least = float(network.cost(network.closed_decisions(1)).ratio)
    if budget < least:
        raise BudgetError(
            f"{budget} of the dense MACs cannot be reached: with every gate closed {least:.4f} are spent, on layers "
            "that have no gate and on the gates themselves; ask for more, or gate more sites (see print(net.plan))"
        )
