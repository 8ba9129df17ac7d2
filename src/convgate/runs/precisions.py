"""What a run's network answers where an engine computes it, in bfloat16 and 8-bit integers, too."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from convgate.analysis import PrecisionFigures
from convgate.analysis.on_engine import judge_on_engine
from convgate.data import Batches
from convgate.engine import Engine
from convgate.engine.precision import Precision
from convgate.errors import InputError, RecipeError
from convgate.gated import GatedModel, GatedNetwork
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
    precisions: Sequence[str], network: nn.Module, training: Any, task: Task, recipe: Recipe
) -> dict[str, Engine]:
    """Precision -> the engine of a network; some of the `training` images choose the scales of integers.

    Raises `RecipeError` for a detector without gates, which calls no engine.
    """
    if not precisions:
        return {}
    scales = training.take(min(_SCALES, len(training)), recipe.seed)
    example = None if isinstance(network, GatedNetwork | GatedModel) else task.example(scales)
    if isinstance(example, list):
        raise RecipeError(
            f"precisions are {', '.join(precisions)}, and the run's detector has no gates; only a gated one has its "
            "convolutions computed by an engine (run_on)"
        )
    batches, threads = _Prepared(scales, task), recipe.hardware.threads
    return {name: engine_in(network, name, batches, example=example, threads=threads) for name in precisions}


def figures_of(engine: Engine, network: nn.Module, images: Any, task: Task, workers: int | None) -> PrecisionFigures:
    """What an engine of `network` answers for a set of images, and the share of the dense MACs that it executes."""
    _LOG.info("evaluating on the engine in %s", engine.precision)
    judged = judge_on_engine(
        engine, network, Batches(images, task.evaluation_batch(images), workers=workers), images, task
    )
    assert judged.spending is not None
    return PrecisionFigures(judged.accuracy, judged.spending.ratio, judged.scores)


@dataclass(frozen=True)
class _Prepared:
    """Batches of a set as a network takes them, as often as they are asked for."""

    images: Any
    task: Task

    def __iter__(self) -> Iterator[Any]:
        for batch, _ in Batches(self.images, min(_AT_ONCE, self.task.evaluation_batch(self.images))):
            yield self.task.prepared(self.images, batch)
