"""Evaluate what a run left behind, or a checkpoint by itself, on a recipe's test images."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convgate import checkpoint
from convgate.data import Splits
from convgate.data import load as load_data
from convgate.errors import CheckpointError, RecipeError
from convgate.files import write_text
from convgate.gated import GatedNetwork
from convgate.training.fit import evaluation_device
from convgate.runs.folder import RunFolder
from convgate.runs.measure import figures, on_images, time_on_engine, where
from convgate.training.parts import check_classifies
from convgate.recipes.recipe import Recipe, load_recipe
from convgate.weights import load_weights

__all__ = ["evaluate_run"]


def evaluate_run(
    source: str | Path,
    *,
    data: str | Path | None = None,
    recipe: str | Path | None = None,
    threads: int | None = None,
    seconds: float = 4.0,
    save: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Accuracy on all test images, share of the dense MACs with its spread, latency dense and gated on the engine.

    Args:
        source: a run's folder, or a gated network's file.
        data: where the images are, if not where the recipe says.
        recipe: which images, and how they are normalised; by default that of the folder that the file is in.
        threads: of the engine and of PyTorch; by default the recipe's.
        seconds: how long to time.
        save: put the figures into the run's metrics.json.
        say: takes one line of news at a time.

    Raises:
        RecipeError: no recipe is given or found.
        CheckpointError: there is no such network, or its file is damaged.

    """
    path = Path(source)
    folder = RunFolder(path if path.is_dir() else path.parent)
    chosen = _recipe(folder, recipe, data)
    threads = threads or chosen.hardware.threads
    if threads:
        torch.set_num_threads(threads)
    network = checkpoint.load(folder / "network.safetensors" if path.is_dir() else path)
    splits = load_data(chosen.data.name, **chosen.data.options)
    check_classifies(network, splits, "model")
    device = evaluation_device(chosen.hardware)
    dense = _dense(network, folder)
    say(f"evaluating on {len(splits.test):,} test images")
    dense_evaluation = None if dense is None else on_images(dense.to(device), splits.test)
    measured = figures(dense_evaluation, on_images(network.to(device), splits.test)) | where()
    measured |= _timed(dense, network, splits, threads, seconds, say)
    if save:
        _update(folder, measured)
    return measured


def _recipe(folder: RunFolder, given: str | Path | None, data: str | Path | None) -> Recipe:
    source = folder / "recipe.yaml" if given is None else given
    if given is None and not (folder / "recipe.yaml").is_file():
        raise RecipeError(
            f"{folder.path} is not the folder of a run (it has no recipe.yaml), so nothing says which images the "
            "network is for; name a recipe"
        )
    return load_recipe(source, [f"--data.options.root={data}"] if data is not None else [])


def _dense(network: GatedNetwork, folder: RunFolder) -> nn.Module | None:
    """The dense network of a run; None where its file is not there."""
    path, spec = folder / "dense.safetensors", network.plan.spec
    if spec is None or not path.is_file():
        return None
    model = spec.create()
    load_weights(model, path, {})
    return model.eval()


def _timed(
    dense: nn.Module | None,
    network: GatedNetwork,
    splits: Splits,
    threads: int | None,
    seconds: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    spec = network.plan.spec
    model = dense or (spec.create().eval() if spec else None)  # how long it takes does not depend on the weights
    if model is None or seconds <= 0:
        return {}
    return time_on_engine(model.cpu(), network.cpu(), splits.test, threads, say, seconds)


def _update(folder: RunFolder, measured: Mapping[str, Any]) -> None:
    path = folder / "metrics.json"
    if not path.is_file():
        raise CheckpointError(f"{path} is not there: only a finished run has figures to replace; leave out --save")
    write_text(path, json.dumps(json.loads(path.read_text(encoding="utf-8")) | measured, indent=2) + "\n")
