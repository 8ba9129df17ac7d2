"""What is measured of a network on the test images: accuracy, MACs and their spread, latency on the engine."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from convgate.analysis import Evaluation, Judged, StaticFigures, compare_with_static, evaluate, judge
from convgate.bench.latency import Latency, latency
from convgate.data import Batches, ImageSet, Splits
from convgate.engine import Engine
from convgate.engine.engine import KEPT_SIZES
from convgate.errors import LoweringError
from convgate.gated import GatedModel, GatedNetwork
from convgate.recipes.recipe import Recipe
from convgate.tasks.task import Task

__all__ = ["calibration_images", "on_images", "static_figures", "time_on_engine", "timed_inputs"]

_LOG = logging.getLogger(__name__)


def on_images(network: nn.Module, images: Any, task: Task, *, workers: int | None = None) -> Evaluation | Judged:
    """What the network answers for a set of images, judged by its task, and what it spent."""
    batches = Batches(images, task.evaluation_batch(images), workers=workers)
    if task.whole_images:
        return evaluate(network, batches, prepare=images.prepared)
    return judge(network, batches, images, task)


def calibration_images(recipe: Recipe, splits: Splits) -> Any:
    """The training images that a recipe's network is calibrated on, and whose majorities fix its units."""
    return splits.train.take(min(recipe.calibration_images, len(splits.train)), recipe.seed)


def static_figures(
    network: GatedNetwork,
    measured: Evaluation,
    training: ImageSet,
    images: ImageSet,
    task: Task,
    *,
    workers: int | None = None,
) -> StaticFigures:
    """What is left of a network that was `measured` on `images` with units fixed at their majority over `training`."""
    assert measured.spending is not None
    some, all_ = (Batches(part, task.evaluation_batch(part), workers=workers) for part in (training, images))
    return compare_with_static(network, measured.spending, some, all_, prepare=images.prepared)


def timed_inputs(images: Any, task: Task) -> list[Any]:
    """Some images of a set, drawn at random, one by one as the network takes them.

    Of images of several sizes as many as an engine stays ready for.
    """
    some = images.take(min(64 if task.whole_images else KEPT_SIZES, len(images)), 0)
    return [task.prepared(some, some.batch(torch.tensor([i]))[0]) for i in range(len(some))]


def time_on_engine(
    dense: nn.Module,
    network: GatedNetwork | GatedModel,
    images: Any,
    task: Task,
    threads: int | None,
    seconds: float,
    precisions: Mapping[str, Mapping[str, Engine]] | None = None,
) -> Latency | None:
    """One image at a time on the engine; None for 0 seconds, and where it has no form for an operation of the model.

    `precisions`: engines of both in precisions that have their turns, too; see `latency`.
    """
    if seconds <= 0:
        return None
    _LOG.info("timing both networks on the engine")
    try:
        inputs = timed_inputs(images, task)
        return latency(dense, network, inputs, seconds=seconds, threads=threads, precisions=precisions)
    except LoweringError as error:
        _LOG.info("not timed: %s", error)
        return None
