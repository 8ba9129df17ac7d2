"""`calibrate`, and what it reports."""

import logging
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import nn

from convgate.calibration import measure
from convgate.calibration.images import Images
from convgate.calibration.price import Macs, Milliseconds
from convgate.calibration.progress import Progress
from convgate.calibration.search import Search
from convgate.calibration.timed import latency_model
from convgate.engine import Engine
from convgate.errors import InputError
from convgate.gated import GatedModel
from convgate.gated.given import given_network
from convgate.latency import LatencyModel
from convgate.reading.modes import evaluating

__all__ = ["Calibration", "calibrate"]

_SHARE = 0.5
# The default budget.
_COMPARED = 100
# Images on which the answers are compared with those of the network with every gate open.
_COLLAPSED = 0.8
# Below this agreement a warning is logged.
_TIMED = 32
# Images that an engine is timed on.
_UNSTEADY = 0.03
# Relative distance from the time asked for above which a warning is logged.
_ROUNDS = 5
# How often the model of its times may be corrected.


@dataclass(frozen=True)
class Calibration:
    """How a calibration ended.

    `target` and `reached` are shares of the dense MACs or, where milliseconds were asked for, milliseconds; `macs` is
    the share of the dense MACs in any case. `shift` is what was added to most logits, `passes` counts runs over the
    images (the first ones over a subset). `agreement` is the share of the images (of the first 100 or so, if there are
    more) whose top class is the one of the network with every gate open; None where the output has no classes, or where
    it was not asked for. `latency` is the model of the engine's times, corrected by the last measurement; None where no
    milliseconds were asked for.
    """

    target: float
    reached: float
    shift: float
    passes: int
    images: int
    agreement: float | None = None
    macs: float = 0.0
    latency: LatencyModel | None = None


def calibrate(
    network: nn.Module,
    batches: Iterable[Any],
    budget: float | None = None,
    *,
    milliseconds: float | None = None,
    engine: Engine | None = None,
    latency: LatencyModel | None = None,
    macs: float | None = None,
    tolerance: float = 5e-3,
    max_passes: int = 60,
    agreement: bool = True,
    on_pass: Callable[[int, float], None] | None = None,
) -> Calibration:
    """Shift all gate logits by one amount so that the mean MACs in evaluation are `budget` of the dense MACs.

    Or so that an engine takes `milliseconds` for an image, on this machine: each of its operations is timed under drawn
    masks for some seconds (`convgate.latency.fit_latency`), the search asks the model that is fitted to these times,
    and an engine of the network as it then is is timed, which corrects the model until the two agree.

    If no single amount does it, because many logits are equal, as in untrained gates, some gate units are shifted a
    little less than others. The shifts are stored in the gates (`Gate.offset`); the network is changed in place, its
    mode is not. An engine that was compiled before keeps its offsets; compile it anew.

    It does not train: what untrained gates close is lost to the network. `agreement` says how many answers stayed the
    same, and a warning is logged (logger "convgate") if most did not.

    Args:
        network: the gated network.
        batches: images [N, C, H, W] as the network takes them, or tuples that begin with them; for a detector, lists of
            images [C, H, W] of any sizes, or tuples that begin with such lists. A list or a loader is
            read again in each pass, so memory does not grow with the number of images; what an iterator yields is kept.
        budget: target share of the dense MACs, as the mean over `batches`, gates included, in (0, 1]; 0.5 where no
            target is given.
        milliseconds: target time of the engine for one image, as the mean over `batches`, instead of a share of MACs.
            Of a detector it is the time of the convolutional part, which the engine computes, for images that the
            detector prepares to the size of the example; what decodes the maps comes on top.
        engine: what is to take so long, with its threads, instruction set and precision; by default
            `convgate.compile(network)`.
        latency: the model of its times from an earlier call (`Calibration.latency`) or from a file
            (`convgate.latency.load`); by default it is fitted.
        macs: another name of `budget`.
        tolerance: the largest relative distance from the target that counts as hit; the search stops at a third of it.
        max_passes: how often the images may be run; of milliseconds, until the model is corrected next.
        agreement: compare the answers with those of the network with every gate open, which takes a pass.
        on_pass: is told of each pass: its number, from 1, and what it came to, in the unit of the target. Without it,
            progress is shown on a terminal.

    Raises:
        InputError: a budget outside (0, 1], two targets, no images, images of several sizes where time is asked for, or
            images, logits or outputs that are not finite.
        BudgetError: the gates cannot reach the budget; the message says what they can.

    """
    network = given_network(network, "calibrate")
    budget = _budget(budget, macs, milliseconds, of_engine=engine is not None or latency is not None)
    if max_passes < 1 or not tolerance >= 0:
        raise InputError(
            f"calibrate(max_passes={max_passes}, tolerance={tolerance}): give at least 1 pass and a tolerance of at "
            "least 0"
        )
    images = Images(batches, lists=isinstance(network, GatedModel))
    progress = Progress(shown=on_pass is None and sys.stderr.isatty())
    timed, kept, passes, shift = None, None, 0, 0.0
    before = [gate.offset.clone() for _, gate in network.gate_modules()]
    with evaluating(network):
        try:
            if milliseconds is not None:
                timed = latency_model(network, engine, latency, progress.on_measuring)
            for _ in range(_ROUNDS):
                price: Macs | Milliseconds = timed.price if timed else Macs(network)
                unit = price.most if isinstance(price, Milliseconds) else 1.0
                share = budget if milliseconds is None else milliseconds / unit
                price.check(share)
                progress.begin(price, share)
                told = _in_units(on_pass, unit, passes) if on_pass else progress.on_pass
                search = Search(network, price, images, share, tolerance, max_passes, told, progress.on_batch)
                search.run()
                passes, shift = passes + search.passes, shift + search.shift
                if timed is None or not timed.correct(images.read(_TIMED)):
                    break
            if agreement:
                kept = measure.agreement(network, images.read(_COMPARED))
        except BaseException:
            with torch.no_grad():
                for (_, gate), offset in zip(network.gate_modules(), before, strict=True):
                    gate.offset.copy_(offset)
            raise
        finally:
            progress.end()
    reached = search.reached * unit * (timed.off if timed else 1.0)
    if timed is not None and abs(reached / (share * unit) - 1) > _UNSTEADY:
        logging.getLogger("convgate").warning(
            "the engine was last timed at %.3g ms where %.3g ms were asked for: its times differ from one measurement "
            "to the next. Is the machine busy?",
            reached,
            share * unit,
        )
    if kept is not None and kept < _COLLAPSED:
        logging.getLogger("convgate").warning(
            "calibrated to %s, the network keeps %.1f %% of the answers that it gives with all "
            "gates open. If its gates were not trained to be closed, train it at this budget (convgate.finetune), or "
            "ask for a larger one; if they were, only its accuracy says how good it is",
            price.words(search.reached),
            100 * kept,
        )
    return Calibration(
        share * unit,
        reached,
        shift,
        passes,
        search.measured.images,
        kept,
        search.measured.macs,
        timed.model if timed else None,
    )


def _budget(budget: Any, macs: Any, milliseconds: Any, *, of_engine: bool) -> float:
    """The share of the dense MACs that is asked for. Raises `InputError` for targets that make no sense."""
    targets = {"budget": budget, "macs": macs, "milliseconds": milliseconds}
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) > 1:
        words = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise InputError(f"calibrate({words}): give one of the {'two' if len(given) == 2 else 'three'}")
    name, value = next(iter(given.items()), ("budget", _SHARE))
    number = isinstance(value, Real)
    if name == "milliseconds":
        if not number or not 0 < float(value) < math.inf:
            raise InputError(f"calibrate(milliseconds={value!r}): give a number above 0")
        return _SHARE
    if of_engine:
        raise InputError("calibrate(engine=.., latency=..) are for milliseconds=..; give it, or leave them out")
    if not number or not 0 < float(value) <= 1:
        raise InputError(f"calibrate({name}={value!r}): the budget is a share of the dense MACs, in (0, 1]")
    return float(value)


def _in_units(on_pass: Callable[[int, float], None], unit: float, before: int) -> Callable[[int, float], None]:
    return lambda number, share: on_pass(before + number, share * unit)
