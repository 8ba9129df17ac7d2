"""Start, or continue, a run as it is asked for: a recipe's name, changes to it, and how long it may take."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from convgate.data import load as load_data
from convgate.runs.folder import RunFolder
from convgate.runs.origin import Origin
from convgate.recipes.recipe import Recipe, epochs_of, load_recipe
from convgate.runs.run import Run, run
from convgate.recipes.schedule import for_epochs, for_minutes, with_epochs
from convgate.runs.speed import images_per_second

__all__ = ["planned", "start"]


def start(
    source: str | Path,
    overrides: Sequence[str],
    folder: str | Path,
    *,
    epochs: int | None = None,
    minutes: float | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress_bar: bool = True,
) -> Run | None:
    """Carry out a recipe in `folder`, see `convgate.runs.run.run`; the folder notes what was asked for.

    Args:
        source: a recipe's path or name.
        overrides: as `load_recipe` takes them.
        folder: of the run.
        epochs: of gated training; the other stages in proportion (see `training.schedule`).
        minutes: how long training may take here. A run that is continued keeps the epochs that it began with.
        say: takes one line of news at a time.
        progress_bar: show Lightning's.

    """
    speeds: dict[str, float] = {}
    recipe = planned(source, overrides, folder, epochs=epochs, minutes=minutes)
    if recipe is None:
        assert minutes is not None
        recipe, speeds = _within(load_recipe(source, overrides), minutes, say)
    full = load_recipe(source)
    origin = Origin.now(str(source), overrides, full, recipe, minutes, speeds)
    shorter = [f"{name} {n} of {epochs_of(full)[name]}" for name, n in epochs_of(recipe).items() if n]
    say(f"epochs, of the recipe's: {', '.join(shorter) or 'none'}")
    begun = RunFolder(folder).origin()
    return run(recipe, folder, origin=begun or origin, say=say, progress_bar=progress_bar)


def planned(
    source: str | Path,
    overrides: Sequence[str],
    folder: str | Path,
    *,
    epochs: int | None = None,
    minutes: float | None = None,
) -> Recipe | None:
    """The recipe that `start` would carry out in `folder`; None if it would first measure how fast it trains."""
    recipe, begun = load_recipe(source, overrides), RunFolder(folder).origin()
    if epochs is not None:
        return for_epochs(recipe, epochs)
    if minutes is None:
        return recipe
    return with_epochs(recipe, begun.run) if begun is not None and begun.minutes == minutes else None


def _within(recipe: Recipe, minutes: float, say: Callable[[str], None]) -> tuple[Recipe, dict[str, float]]:
    if recipe.hardware.threads:
        torch.set_num_threads(recipe.hardware.threads)
    splits = load_data(recipe.data.name, **recipe.data.options)
    speeds: dict[str, float] = {}

    def measure() -> dict[str, float]:
        speeds.update(images_per_second(recipe, splits, say=say))
        say(", ".join(f"{name}: {speed:.0f} images/s" for name, speed in speeds.items()))
        return speeds

    # A validation image is seen without a backward pass, which is about a third of the work.
    images = len(splits.train) + len(splits.validation) // 3
    return for_minutes(recipe, minutes, images, measure), speeds
