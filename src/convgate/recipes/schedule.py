"""Shorter schedules: all stages of a recipe by one factor, given as epochs or found from a time.

What depends on time in a recipe (learning rates, milestones, warm-up, the methods' annealing) is given in shares of a
stage, so it shrinks with the stage.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from convgate.errors import RecipeError
from convgate.recipes.recipe import Recipe
from convgate.recipes.stages import Gates

__all__ = ["for_epochs", "for_minutes", "with_epochs"]


def with_epochs(recipe: Recipe, epochs: Mapping[str, int]) -> Recipe:
    """The recipe with these numbers of epochs: stage -> epochs."""
    return replace(recipe, **{name: replace(getattr(recipe, name), epochs=n) for name, n in epochs.items()})


def for_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with so many epochs of gated training (of dense training, if there is no other); others in proportion.

    Raises `RecipeError` for less than one epoch, and for a recipe that trains nothing.
    """
    if epochs < 1:
        raise RecipeError(f"{epochs} epochs are too few; give at least 1")
    trained = [stage for stage in recipe.stages if stage.epochs]
    if not trained:
        raise RecipeError("the recipe trains for no epochs at all, so there is nothing to scale")
    main = next((stage for stage in trained if stage.gates is Gates.TRAIN), trained[0])
    return _scaled(recipe, epochs / main.epochs)


def for_minutes(recipe: Recipe, minutes: float, images: int, images_per_s: Callable[[], Mapping[str, float]]) -> Recipe:
    """The recipe with as many epochs as fit into a time, and never more than its own.

    At least one epoch of each stage is left, so a very short time is exceeded. Calibration and evaluation come on top.

    Args:
        recipe: what to shorten.
        minutes: for all stages of training together.
        images: in an epoch.
        images_per_s: measures the speed of training: stage -> images per second.

    """
    if not minutes > 0:
        raise RecipeError(f"{minutes} minutes are too short to train; give more than 0")
    epochs = {name: n for name, n in recipe.epochs.items() if n}
    if not epochs:
        raise RecipeError("the recipe trains for no epochs at all, so there is nothing to scale")
    speeds = images_per_s()
    needed = sum(n * images / speeds[name] for name, n in epochs.items())
    return _scaled(recipe, min(1.0, 60 * minutes / needed))


def _scaled(recipe: Recipe, factor: float) -> Recipe:
    def scaled(epochs: int) -> int:
        return max(1, int(epochs * factor + 1e-6)) if epochs else 0

    return with_epochs(recipe, {name: scaled(epochs) for name, epochs in recipe.epochs.items()})
