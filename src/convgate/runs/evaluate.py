"""Evaluate what a run left behind, or a gated network's file, on a recipe's test images."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from convgate import checkpoint
from convgate.analysis import Evaluation, Judged, Metrics, StaticFigures
from convgate.data import Splits
from convgate.data import load as load_data
from convgate.errors import CheckpointError, RecipeError
from convgate.files import write_text
from convgate.gated import GatedModel, GatedNetwork
from convgate.recipes.read import load_recipe
from convgate.recipes.recipe import Recipe
from convgate.runs.measure import calibration_images, on_images, static_figures, time_on_engine
from convgate.runs.precisions import check_precisions, engines_in, figures_of
from convgate.runs.run import Run
from convgate.runs.ungated import ungated_macs
from convgate.training.device import device_of
from convgate.training.parts import build_model, build_task
from convgate.undisturbed import undisturbed

__all__ = ["evaluate_file", "evaluate_run"]

_LOG = logging.getLogger(__name__)


def evaluate_run(
    run: Run | str | Path,
    *,
    data: str | Path | None = None,
    threads: int | None = None,
    seconds: float = 4.0,
    static: bool = False,
    precisions: Sequence[str] = (),
    save: bool = False,
) -> Metrics:
    """Accuracy on all test images, share of the dense MACs with its spread, latency dense and gated on the engine.

    A run that was measured on held-out images is measured on them again, and its metrics say so.

    Threads and random states of the process stay as they are.

    Args:
        run: a run, or its folder.
        data: where the images are, if not where the recipe says.
        threads: threads of the engine and of PyTorch; None for the recipe's.
        seconds: how long to time; 0 for not at all.
        static: measure the gated network with its units fixed at their majorities, too.
        precisions: "float32", "bf16", "int8": measure what the engine answers in these, too, and time gated networks in
            them; 300 training images choose the scales of integers.
        save: put the figures into the run's metrics.json; what was not measured this time stays in it. Precisions that
            were timed before are timed again.

    Raises:
        RecipeError: there is no such run; to save, it must be finished.
        CheckpointError: its network is missing or damaged.
        InputError: there is no such precision.
        LoweringError: the engine has no form for an operation of the network.

    """
    check_precisions(precisions)
    if not isinstance(run, Run):
        _check_folder(Path(run))
        run = Run.load(run, data)
    before = run.finished if save else None
    splits, network = run.splits(), run.trained()
    images = splits.validation if run.recipe.measured == "validation" else splits.test
    if before is not None and before.latency is not None and seconds > 0:
        # What is timed anew replaces what was timed in other turns: all of it is.
        precisions = tuple(dict.fromkeys((*before.latency.precisions, *precisions)))
    how = _How(_on_threads(run.recipe, threads), seconds, precisions, static)
    measured = _measured(network, run.dense_network(), splits, images, how)
    measured = replace(measured, measured=run.recipe.measured)
    if before is not None:
        measured = before.updated(measured)
        write_text(run.folder.metrics, measured.to_json())
    return measured


def evaluate_file(
    path: str | Path,
    *,
    recipe: str | Path | None = None,
    data: str | Path | None = None,
    threads: int | None = None,
    seconds: float = 4.0,
    precisions: Sequence[str] = (),
) -> Metrics:
    """The same of a gated network's file; of its dense network only the MACs are known.

    Args:
        path: what `convgate.save` wrote.
        recipe: which images, and how they are normalised; None for that of the folder that the file is in.
        data: where the images are, if not where the recipe says.
        threads: threads of the engine and of PyTorch; None for the recipe's.
        seconds: how long to time; 0 for not at all.
        precisions: see `evaluate_run`.

    Raises:
        RecipeError: no recipe is given or found.
        CheckpointError: the file is missing or damaged.
        InputError: there is no such precision.
        LoweringError: the engine has no form for an operation of the network.

    """
    check_precisions(precisions)
    path = Path(path)
    checkpoint.require_gated(path)
    beside = path.parent / "recipe.yaml"
    if recipe is None and not beside.is_file():
        raise RecipeError(
            f"{path} is not in the folder of a run (there is no {beside}), so nothing says which images the network is "
            "for; name a recipe"
        )
    overrides = [f"--data.options.root={data}"] if data is not None else []
    chosen = load_recipe(beside if recipe is None else recipe, overrides)
    network = checkpoint.load(path, unnamed=partial(build_model, chosen.model, weights=False))
    splits = load_data(chosen.data.name, **chosen.data.options)
    return _measured(network, None, splits, splits.test, _How(_on_threads(chosen, threads), seconds, precisions))


@dataclass(frozen=True)
class _How:
    """What is measured, and on what: see `evaluate_run`."""

    recipe: Recipe
    seconds: float
    precisions: Sequence[str] = ()
    static: bool = False


def _on_threads(recipe: Recipe, threads: int | None) -> Recipe:
    return replace(recipe, hardware=replace(recipe.hardware, threads=threads or recipe.hardware.threads))


def _measured(network: nn.Module, dense: nn.Module | None, splits: Splits, images: Any, how: _How) -> Metrics:
    recipe = how.recipe
    task, hardware = build_task(recipe), recipe.hardware
    device = device_of(hardware)
    with undisturbed(hardware.threads):
        task.check(network, splits.train, "model")
        _LOG.info("evaluating on %s images", f"{len(images):,}")
        workers = hardware.workers
        engines = engines_in(how.precisions, network.cpu(), dense, splits.train, task, recipe)
        before = None if dense is None else on_images(dense.to(device), images, task, workers=workers)
        after = on_images(network.to(device), images, task, workers=workers)
        gated = isinstance(network, GatedNetwork | GatedModel)
        macs = None if gated or after.spending else ungated_macs(network, images, task)
        measured = Metrics.of(before, after, macs, device)
        if how.static:
            measured = replace(measured, static=_fixed(network, after, splits, images, how))
        network, dense = network.cpu(), None if dense is None else dense.cpu()
        figures = {name: figures_of(both, network, dense, images, task, workers) for name, both in engines.items()}
        measured = replace(measured, precisions=figures)
        if not isinstance(network, GatedNetwork | GatedModel):
            return measured
        # Of a file, whose time does not depend on the weights.
        timed = network.dense().eval() if dense is None else dense
        latency = time_on_engine(timed, network, images, task, hardware.threads, how.seconds, engines)
        return replace(measured, latency=latency)


def _fixed(network: nn.Module, after: Evaluation | Judged, splits: Splits, images: Any, how: _How) -> StaticFigures:
    if not isinstance(after, Evaluation) or not isinstance(network, GatedNetwork):
        raise RecipeError(
            "units are fixed at their majorities in gated networks, for images of one size with a class each; leave "
            "--static out"
        )
    task, recipe = build_task(how.recipe), how.recipe
    fixed_on = calibration_images(recipe, splits)
    return static_figures(network, after, fixed_on, images, task, workers=recipe.hardware.workers)


def _check_folder(path: Path) -> None:
    if path.is_file():
        raise RecipeError(f"{path} is a file, not the folder of a run; evaluate_file evaluates it")
    if not path.is_dir():
        raise CheckpointError(f"there is no run {path}")
