"""How fast a recipe trains on this machine, from a few steps of each of its stages."""

import logging
import time
from typing import Any

import lightning as L
import torch

from convgate.data import Splits
from convgate.errors import RecipeError
from convgate.recipes.recipe import Recipe
from convgate.recipes.stages import Gates
from convgate.training.fit import training_steps
from convgate.training.parts import (
    build_gated,
    build_method,
    build_model,
    build_static,
    build_task,
    build_teacher,
    teaching,
)

__all__ = ["images_per_second"]

_LOG = logging.getLogger(__name__)


def images_per_second(
    recipe: Recipe,
    splits: Splits,
    *,
    warmup: int = 4,
    timed: int = 12,
) -> dict[str, float]:
    """Stage -> images per second in training, for the stages that the recipe has. Nothing is left of the steps done.

    Each stage does `warmup` steps and `timed` more; twelve of a ResNet-56 take about ten seconds on a core.

    Raises `RecipeError` for recipes of several processes.
    """
    if recipe.processes > 1:
        raise RecipeError("the speed of several processes is not measured; give a number of epochs instead of minutes")
    task = build_task(recipe)
    task.require(splits.train)
    dense = build_model(recipe.model)
    task.check(dense, splits.train, "model")
    teacher = teaching(recipe, build_teacher(recipe, splits) or dense)
    speeds = {}
    for stage in recipe.stages:
        if not stage.epochs:
            continue
        _LOG.info("measuring how fast the %s stage trains", stage.name)
        clock = _Clock(warmup)
        steps: dict[str, Any] = {"limit": warmup + timed, "callbacks": [clock]}
        if stage.gates is Gates.NONE:
            training_steps(build_model(recipe.model), stage, splits, recipe, **steps)
        else:
            used, network = None, dense
            if recipe.method.is_static:
                network = build_static(recipe, dense, splits)
            elif (method := build_method(recipe)) is not None:
                network = build_gated(recipe, dense, method, splits)
                used = method if stage.gates is Gates.TRAIN else None
            training_steps(network, stage, splits, recipe, method=used, teacher=teacher, **steps)
        speeds[stage.name] = stage.batch_size / clock.seconds_per_step
    return speeds


class _Clock(L.Callback):
    """Times the steps after the first few."""

    def __init__(self, warmup: int) -> None:
        self.warmup, self.steps, self.start, self.end = warmup, 0, 0.0, 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.end = time.perf_counter()
        if self.steps <= self.warmup:
            self.start = self.end

    @property
    def seconds_per_step(self) -> float:
        return (self.end - self.start) / (self.steps - self.warmup)
