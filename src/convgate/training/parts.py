"""What a recipe names, built: the model, the teacher, how images are prepared."""

import torch
from torch import Tensor, nn

from convgate.data import Splits
from convgate.errors import RecipeError
from convgate.gated import FixedNetwork, gate, random_masks
from convgate.methods import Method
from convgate.methods import create as create_method
from convgate.models import create as create_model
from convgate.models import pretrained
from convgate.reading.modes import evaluating
from convgate.recipes.recipe import ModelChoice, Recipe
from convgate.training.distil import Teacher
from convgate.weights import load_weights

__all__ = ["build_method", "build_model", "build_static", "build_teacher", "check_classifies", "teaching"]


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


def build_static(recipe: Recipe, model: nn.Module, splits: Splits) -> nn.Module:
    """What a recipe makes of its model whose network does not decide by image: fixed masks, or the model itself."""
    method = build_method(recipe)
    if method is None:
        return model
    assert recipe.budget is not None
    network = gate(model, method, splits.train.example())
    return FixedNetwork(network, random_masks(network, recipe.budget, recipe.seed))


def build_teacher(recipe: Recipe, splits: Splits) -> nn.Module | None:
    """The recipe's teacher, if it is another network than the dense one."""
    chosen = recipe.distillation
    if not chosen.weight or chosen.teacher is None:
        return None
    with torch.random.fork_rng(devices=[]):  # what is trained does not depend on the teacher's random weights
        teacher = build_model(chosen.teacher)
    check_classifies(teacher, splits, "distillation.teacher")
    return teacher


def teaching(recipe: Recipe, teacher: nn.Module) -> Teacher | None:
    """The teacher as the loss takes it, if the recipe wants one."""
    chosen = recipe.distillation
    if not chosen.weight:
        return None
    return Teacher(teacher, weight=chosen.weight, convex=chosen.convex, temperature=chosen.temperature)


def check_classifies(model: nn.Module, splits: Splits, field: str) -> None:
    """Raise `RecipeError` unless the model of the recipe's `field` returns one logit for each class."""
    with torch.no_grad(), evaluating(model):
        logits = model(splits.train.example())
    classes = len(splits.train.classes)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] != classes:
        given = list(logits.shape[1:]) if isinstance(logits, Tensor) else type(logits).__name__
        raise RecipeError(
            f"the {field} returns {given} for each image, and the data set has {classes} classes, numbered in their "
            f"own order; set {field}.options.num_classes to {classes}. For a network that knows more classes, convgate "
            "finetune finds the outputs by the classes' names"
        )
