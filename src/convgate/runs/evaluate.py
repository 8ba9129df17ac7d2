"""Evaluate what a run left behind, or a gated network's file, on a recipe's test images."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from convgate import checkpoint
from convgate.analysis import Evaluation, Metrics
from convgate.data import Splits
from convgate.data import load as load_data
from convgate.errors import CheckpointError, RecipeError
from convgate.files import write_text
from convgate.gated import GatedModel, GatedNetwork
from convgate.recipes.read import load_recipe
from convgate.recipes.recipe import Hardware
from convgate.runs.measure import calibration_images, on_images, static_figures, time_on_engine
from convgate.runs.run import Run
from convgate.runs.ungated import ungated_macs
from convgate.tasks.task import Task
from convgate.training.device import device_of
from convgate.training.parts import build_task
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
        save: put the figures into the run's metrics.json; what was not measured this time stays in it.

    Raises:
        RecipeError: there is no such run; to save, it must be finished.
        CheckpointError: its network is missing or damaged.

    """
    if not isinstance(run, Run):
        _check_folder(Path(run))
        run = Run.load(run, data)
    before = run.finished if save else None
    hardware = replace(run.recipe.hardware, threads=threads or run.recipe.hardware.threads)
    splits, network = run.splits(), run.trained()
    images = splits.validation if run.recipe.measured == "validation" else splits.test
    fixed_on = calibration_images(run.recipe, splits) if static else None
    measured = _measured(
        network, run.dense_network(), splits, images, build_task(run.recipe), hardware, seconds, fixed_on
    )
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
) -> Metrics:
    """The same of a gated network's file; of its dense network only the MACs are known.

    Args:
        path: what `convgate.save` wrote.
        recipe: which images, and how they are normalised; None for that of the folder that the file is in.
        data: where the images are, if not where the recipe says.
        threads: threads of the engine and of PyTorch; None for the recipe's.
        seconds: how long to time; 0 for not at all.

    Raises:
        RecipeError: no recipe is given or found.
        CheckpointError: the file is missing or damaged.

    """
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
    network = checkpoint.load(path)
    hardware = replace(chosen.hardware, threads=threads or chosen.hardware.threads)
    splits = load_data(chosen.data.name, **chosen.data.options)
    return _measured(network, None, splits, splits.test, build_task(chosen), hardware, seconds)


def _measured(
    network: nn.Module,
    dense: nn.Module | None,
    splits: Splits,
    images: Any,
    task: Task,
    hardware: Hardware,
    seconds: float,
    fixed_on: Any = None,
) -> Metrics:
    device = device_of(hardware)
    with undisturbed(hardware.threads):
        task.check(network, splits.train, "model")
        _LOG.info("evaluating on %s images", f"{len(images):,}")
        workers = hardware.workers
        before = None if dense is None else on_images(dense.to(device), images, task, workers=workers)
        after = on_images(network.to(device), images, task, workers=workers)
        if not isinstance(network, GatedNetwork | GatedModel):
            macs = None if after.spending else ungated_macs(network, images, task)
            return Metrics.of(before, after, macs, device)
        measured = Metrics.of(before, after, device=device)
        if fixed_on is not None:
            if not isinstance(after, Evaluation) or not isinstance(network, GatedNetwork):
                raise RecipeError(
                    "units are fixed at their majorities for images of one size with a class each; leave --static out"
                )
            static = static_figures(network, after, fixed_on, images, task, workers=workers)
            measured = replace(measured, static=static)
        spec = network.plan.spec
        timed = dense or (spec.create().eval() if spec else None)  # the time does not depend on the weights
        if timed is None:
            return measured
        latency = time_on_engine(timed.cpu(), network.cpu(), images, task, hardware.threads, seconds)
        return replace(measured, latency=latency)


def _check_folder(path: Path) -> None:
    if path.is_file():
        raise RecipeError(f"{path} is a file, not the folder of a run; evaluate_file evaluates it")
    if not path.is_dir():
        raise CheckpointError(f"there is no run {path}")
