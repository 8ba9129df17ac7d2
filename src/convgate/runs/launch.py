"""Train: carry out what was asked for, or finish what an interrupted run left."""

import logging
import os
from pathlib import Path

from convgate.data import load as load_data
from convgate.recipes.recipe import Recipe
from convgate.recipes.request import Request
from convgate.recipes.schedule import for_minutes, with_epochs
from convgate.runs.folder import RunFolder
from convgate.runs.origin import Origin
from convgate.runs.run import Run
from convgate.undisturbed import undisturbed

__all__ = ["train"]

_LOG = logging.getLogger(__name__)


def train(request: Request | Recipe | str, folder: str | Path, *, progress: bool = True) -> Run | None:
    """Carry out a recipe in `folder`. An interrupted run is continued, to the same weights; a finished one stays.

    Args:
        request: a recipe, a recipe's name or path, or either with changes; of a `Request` the folder keeps a note.
        folder: where; made if need be, and gone again if the run fails before it has trained. See
            `TrainingRun.carry_out` for what it holds in the end.
        progress: show progress bars.

    Returns:
        The finished run; None in all but the first of several processes.

    Raises:
        RecipeError: no such recipe, or the folder holds a run of another one.
        ConvgateError: the data, the model or the method cannot be used as asked.

    """
    home, origin = RunFolder(folder), None
    if isinstance(request, Recipe):
        recipe = request
    else:
        request = request if isinstance(request, Request) else Request(request)
        recipe, speeds = _recipe_of(request, home)
        origin = Origin.now(request, recipe, speeds)
    if home.recipe.is_file() and not home.holds_other_run(recipe) and home.is_finished(recipe):
        home.claim(recipe)
        _LOG.info("finished before; `convgate evaluate %s --save` measures it again", home.path)
        return Run.load(home.path) if os.environ.get("LOCAL_RANK", "0") == "0" else None
    if isinstance(request, Request):
        full = request.as_written.epochs
        epochs = [f"{name} {n} of {full[name]}" for name, n in recipe.epochs.items() if n]
        _LOG.info("epochs, of the recipe's: %s", ", ".join(epochs) or "none")
    from convgate.runs.training import TrainingRun  # imports Lightning, which takes seconds

    return TrainingRun(recipe, folder, progress=progress).carry_out(origin)


def _begun(request: Request, home: RunFolder) -> Recipe | None:
    """The recipe of a request; one with a time in minutes has its epochs from the run that is there, if it is its."""
    if request.minutes is None:
        return request.recipe
    origin = home.read_origin()
    if origin is None or origin.minutes != request.minutes:
        return None
    return with_epochs(request.recipe, origin.run)


def _recipe_of(request: Request, home: RunFolder) -> tuple[Recipe, dict[str, float]]:
    """The recipe to carry out, and the speeds that were measured to find its epochs."""
    begun = _begun(request, home)
    if begun is not None:
        return begun, {}
    assert request.minutes is not None
    recipe, speeds = request.recipe, {}
    from convgate.runs.speed import images_per_second  # imports Lightning, too

    splits = load_data(recipe.data.name, **recipe.data.options)

    def measure() -> dict[str, float]:
        with undisturbed(recipe.hardware.threads):
            speeds.update(images_per_second(recipe, splits))
        _LOG.info("%s", ", ".join(f"{name}: {speed:.0f} images/s" for name, speed in speeds.items()))
        return speeds

    # A validation image is seen without a backward pass, which is about a third of the work.
    images = len(splits.train) + (len(splits.validation) // 3 if splits.holds_out else 0)
    return for_minutes(recipe, request.minutes, images, measure), speeds
