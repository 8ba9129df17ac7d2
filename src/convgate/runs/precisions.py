"""What a run's network answers where an engine computes it, in bfloat16 and 8-bit integers, too."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from convgate.analysis import Judged, PrecisionFigures
from convgate.analysis.on_engine import judge_on_engine
from convgate.data import Batches
from convgate.engine import Engine
from convgate.engine.precision import Precision
from convgate.errors import InputError, RecipeError
from convgate.gated import FixedNetwork, GatedModel, GatedNetwork
from convgate.quantization.precisions import engine_in
from convgate.recipes.recipe import Recipe
from convgate.tasks.task import Task

__all__ = ["check_precisions", "engines_in", "figures_of"]

_LOG = logging.getLogger(__name__)
_SCALES, _AT_ONCE = 300, 20
"""Training images that choose the scales of 8-bit integers, at most; so many of one size are read at once."""


def check_precisions(precisions: Sequence[str]) -> None:
    """Raise `InputError` for what is no precision of the engine."""
    known = [str(one.value) for one in Precision]
    for name in precisions:
        if name not in known:
            raise InputError(f"precision {name!r} is none of the engine's; they are {', '.join(known)}")


def engines_in(
    precisions: Sequence[str], network: nn.Module, dense: nn.Module | None, training: Any, task: Task, recipe: Recipe
) -> dict[str, dict[str, Engine]]:
    """Precision -> the engines of "gated", the network, and "dense", what it was before, if that is known.

    Some of the `training` images choose the scales of integers.

    Raises `RecipeError` for masks that are fixed, and for a detector without gates, which calls no engine.
    """
    if not precisions:
        return {}
    scales = training.take(min(_SCALES, len(training)), recipe.seed)
    example = task.example(scales)
    if isinstance(network, FixedNetwork):
        raise RecipeError(
            f"precisions are {', '.join(precisions)}; the run's masks are fixed, for which no engine is made"
        )
    if isinstance(example, list) and not isinstance(network, GatedModel):
        raise RecipeError(
            f"precisions are {', '.join(precisions)}, and the run's detector has no gates; only a gated one has its "
            "convolutions computed by an engine (run_on)"
        )
    given = {"gated": (network, None if isinstance(network, GatedNetwork | GatedModel) else example)}
    if dense is not None:
        given["dense"] = (dense, example)
    batches, threads = _Prepared(scales, task, recipe.hardware.workers), recipe.hardware.threads
    return {
        name: {
            which: engine_in(one, name, batches, example=example, threads=threads)
            for which, (one, example) in given.items()
        }
        for name in precisions
    }


def figures_of(
    engines: Mapping[str, Engine],
    network: nn.Module,
    dense: nn.Module | None,
    images: Any,
    task: Task,
    workers: int | None,
) -> PrecisionFigures:
    """What the engines of one precision (see `engines_in`) answer for a set of images.

    Of a detector that is not gated nothing is known: it calls no engine.
    """

    def judged(which: str, of: nn.Module) -> Judged:
        _LOG.info("evaluating the %s network on the engine in %s", which, engines[which].precision)
        batches = Batches(images, task.evaluation_batch(images), workers=workers)
        return judge_on_engine(engines[which], of, batches, images, task)

    found = judged("gated", network)
    before = judged("dense", dense) if dense is not None and not isinstance(network, GatedModel) else None
    assert found.spending is not None
    accuracy = None if before is None else before.accuracy
    return PrecisionFigures(found.accuracy, found.spending.ratio, found.scores, accuracy)


@dataclass(frozen=True)
class _Prepared:
    """Batches of a set as a network takes them, as often as they are asked for."""

    images: Any
    task: Task
    workers: int | None

    def __iter__(self) -> Iterator[Any]:
        at_once = min(_AT_ONCE, self.task.evaluation_batch(self.images))
        for batch, _ in Batches(self.images, at_once, workers=self.workers):
            yield self.task.prepared(self.images, batch)
