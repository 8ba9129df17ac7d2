"""What a recipe names, built: the model, the teacher, how images are prepared."""

from typing import Any

import torch
from torch import nn

from convgate.data import Splits
from convgate.gated import FixedNetwork, gate, random_masks
from convgate.methods import Method
from convgate.methods import create as create_method
from convgate.models import create as create_model
from convgate.models import pretrained
from convgate.recipes.recipe import ModelChoice, Recipe
from convgate.tasks import create_task
from convgate.tasks.task import Task
from convgate.training.distil import Teacher
from convgate.weights import load_weights

__all__ = ["build_gated", "build_method", "build_model", "build_static", "build_task", "build_teacher", "teaching"]


def build_model(choice: ModelChoice, *, weights: bool = True) -> nn.Module:
    """The model, with the weights that the recipe names unless `weights` is False."""
    if weights and choice.weights == "pretrained":
        return pretrained(choice.name, **choice.options)
    model = create_model(choice.name, **choice.options)
    if weights and choice.weights:
        load_weights(model, choice.weights, choice.rename)
    return model


def build_method(recipe: Recipe) -> Method | None:
    """The recipe's method, with the recipe's budget; None for a network without gates."""
    if recipe.method.name is None:
        return None
    return create_method(recipe.method.name, recipe.method.options, budget=recipe.budget)


def build_task(recipe: Recipe) -> Task:
    """What the recipe's network is trained for."""
    return create_task(recipe.task, recipe.task_options).with_augmentation(recipe.augmentation)


def build_gated(recipe: Recipe, model: nn.Module, method: Method, splits: Splits) -> Any:
    """The recipe's network, gated: a `GatedNetwork`, or of a detector a `GatedModel`."""
    example = build_task(recipe).example(splits.train)
    return gate(model, method, example, inside=recipe.method.inside)


def build_static(recipe: Recipe, model: nn.Module, splits: Splits) -> nn.Module:
    """What a recipe makes of its model whose network does not decide by image: fixed masks, or the model itself."""
    method = build_method(recipe)
    if method is None:
        return model
    assert recipe.budget is not None
    network = build_gated(recipe, model, method, splits)
    return FixedNetwork(network, random_masks(network, recipe.budget, recipe.seed))


def build_teacher(recipe: Recipe, splits: Splits) -> nn.Module | None:
    """The recipe's teacher, if it is another network than the dense one."""
    chosen = recipe.distillation
    if not chosen.weight or chosen.teacher is None:
        return None
    with torch.random.fork_rng(devices=[]):  # what is trained does not depend on the teacher's random weights
        teacher = build_model(chosen.teacher)
    build_task(recipe).check(teacher, splits.train, "distillation.teacher")
    return teacher


def teaching(recipe: Recipe, teacher: nn.Module) -> Teacher | None:
    """The teacher as the loss takes it, if the recipe wants one."""
    chosen = recipe.distillation
    if not chosen.weight:
        return None
    return Teacher(
        teacher,
        weight=chosen.weight,
        convex=chosen.convex,
        temperature=chosen.temperature,
        task=build_task(recipe),
    )
