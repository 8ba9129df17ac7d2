"""How fast a recipe trains on this machine, from a few steps of each of its stages."""

import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch

from convgate.data import Splits
from convgate.errors import RecipeError
from convgate.gated import gate
from convgate.methods import create as create_method
from convgate.training.fit import training_steps
from convgate.training.parts import build_model, build_teacher, check_classifies, preparation, teaching
from convgate.recipes.recipe import Recipe, epochs_of

__all__ = ["images_per_second"]


def images_per_second(
    recipe: Recipe,
    splits: Splits,
    *,
    warmup: int = 4,
    timed: int = 12,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Stage -> images per second in training, for the stages that the recipe has. Nothing is left of the steps done.

    Each stage does `warmup` steps and `timed` more; twelve of a ResNet-56 take about ten seconds on a core.

    Raises `RecipeError` for recipes of several processes.
    """
    if recipe.hardware.devices * recipe.hardware.nodes > 1:
        raise RecipeError("the speed of several processes is not measured; give a number of epochs instead of minutes")
    dense = build_model(recipe.model)
    outputs = check_classifies(dense, splits, "model")
    teacher = teaching(recipe, build_teacher(recipe, splits, outputs) or dense)
    speeds = {}
    for name in (name for name, epochs in epochs_of(recipe).items() if epochs):
        stage = getattr(recipe, name)
        say(f"measuring how fast the {name} stage trains")
        clock = _Clock(warmup)
        steps: dict[str, Any] = {"limit": warmup + timed, "callbacks": [clock]}
        if name == "dense":
            training_steps(build_model(recipe.model), stage, splits, recipe, **steps)
        else:
            method = create_method(recipe.method.name, recipe.method.options, budget=recipe.budget)
            network = gate(dense, method, preparation(splits.train)(splits.train.images[:2]))
            held = name == "finish"
            used = None if held else method
            training_steps(network, stage, splits, recipe, method=used, teacher=teacher, hold_gates=held, **steps)
        speeds[name] = stage.batch_size / clock.seconds_per_step
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
