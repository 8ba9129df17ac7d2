"""What is measured of a network on the test images: accuracy, MACs and their spread, latency on the engine."""

import logging

from torch import nn

from convgate.analysis import Evaluation, StaticFigures, compare_with_static, evaluate
from convgate.bench.latency import Latency, latency
from convgate.data import Batches, ImageSet, Splits
from convgate.errors import LoweringError
from convgate.gated import GatedNetwork
from convgate.recipes.recipe import Recipe
from convgate.training.evaluation import evaluation_batch

__all__ = ["calibration_images", "on_images", "static_figures", "time_on_engine"]

_LOG = logging.getLogger(__name__)


def on_images(network: nn.Module, images: ImageSet, *, workers: int | None = None) -> Evaluation:
    """The network's predictions for a set of images, and what it spent."""
    batches = Batches(images, evaluation_batch(images), workers=workers)
    return evaluate(network, batches, prepare=images.prepared)


def calibration_images(recipe: Recipe, splits: Splits) -> ImageSet:
    """The training images that a recipe's network is calibrated on, and whose majorities fix its units."""
    return splits.train.take(min(recipe.calibration_images, len(splits.train)), recipe.seed)


def static_figures(
    network: GatedNetwork, measured: Evaluation, training: ImageSet, images: ImageSet, *, workers: int | None = None
) -> StaticFigures:
    """What is left of a network that was `measured` on `images` with units fixed at their majority over `training`."""
    assert measured.spending is not None
    some, all_ = (Batches(part, evaluation_batch(part), workers=workers) for part in (training, images))
    return compare_with_static(network, measured.spending, some, all_, prepare=images.prepared)


def time_on_engine(
    dense: nn.Module, network: GatedNetwork, images: ImageSet, threads: int | None, seconds: float
) -> Latency | None:
    """One image at a time on the engine; None for 0 seconds, and where it has no form for an operation of the model."""
    if seconds <= 0:
        return None
    _LOG.info("timing both networks on the engine")
    some = images.take(min(64, len(images)), 0)
    try:
        return latency(dense, network, some.example(len(some)), seconds=seconds, threads=threads)
    except LoweringError as error:
        _LOG.info("not timed: %s", error)
        return None
