"""A whole training run from a recipe: dense training, gating, gated training, calibration, finish, evaluation.

Each training stage leaves a file behind when it is complete, and is skipped if the file is there: a run that was
interrupted is continued by starting it again. Calibration and evaluation take seconds and are done each time.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convgate import checkpoint
from convgate.analysis import Evaluation
from convgate.data import Batches, Splits
from convgate.data import load as load_data
from convgate.files import replacing, write_text
from convgate.gated import GatedNetwork, gate
from convgate.methods import Method
from convgate.methods import create as create_method
from convgate.calibration import calibrate
from convgate.training.fit import evaluation_device, fit
from convgate.runs.folder import RunFolder
from convgate.runs.measure import EVALUATION_BATCH, figures, on_images, time_on_engine, where
from convgate.runs.origin import Origin
from convgate.training.parts import build_model, build_teacher, check_classifies, preparation, teaching
from convgate.recipes.recipe import Recipe, Stage
from convgate.weights import read_tensors

__all__ = ["Run", "run"]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its folder, what went in, and what came out; `metrics` is the content of metrics.json."""

    folder: RunFolder
    recipe: Recipe
    splits: Splits
    network: GatedNetwork
    dense: Evaluation
    gated: Evaluation
    metrics: Mapping[str, Any]


def run(
    recipe: Recipe,
    folder: str | Path,
    *,
    origin: Origin | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress_bar: bool = True,
) -> Run | None:
    """Carry out `recipe` in `folder`, or finish what an interrupted run left there.

    Writes recipe.yaml, origin.json, dense.safetensors (state dict), gated.safetensors (trained), finished.safetensors
    (if the recipe has a finish), network.safetensors (calibrated; see `convgate.load`), metrics.json, and per stage a
    folder with epochs.csv, a checkpoint and TensorBoard logs. Returns None in all but the first of several processes.

    Args:
        recipe: what to do.
        folder: where; made if need be. One that holds another recipe's run is refused.
        origin: where the recipe comes from; noted in the folder.
        say: takes one line of news at a time.
        progress_bar: show Lightning's.

    Raises:
        RecipeError: the folder holds a run of another recipe.
        ConvgateError: whatever the data, the model or the method refuse.

    """
    home = RunFolder(folder)
    home.claim(recipe, origin)
    if recipe.hardware.threads:
        torch.set_num_threads(recipe.hardware.threads)
    splits = load_data(recipe.data.name, **recipe.data.options)
    method = create_method(recipe.method.name, recipe.method.options, budget=recipe.budget)
    torch.manual_seed(recipe.seed)
    dense = build_model(recipe.model)
    outputs = check_classifies(dense, splits, "model")
    teacher = build_teacher(recipe, splits, outputs)
    work = _Work(recipe, splits, home, method, dense, teacher or dense, say, progress_bar)
    first = work.train_dense()
    # As it would be loaded from its file: in another memory format sums are rounded otherwise, and a run that was
    # interrupted would end elsewhere.
    dense.to(memory_format=torch.contiguous_format)
    network, first = work.train_gated(first)
    if recipe.finish.epochs:
        network, first = work.finish(network, first)
    if not first:
        return None
    started = time.monotonic()
    device = evaluation_device(recipe.hardware)
    dense, network = dense.to(device), network.to(device)
    _calibrate(network, recipe, splits, say)
    checkpoint.save(network, home / "network.safetensors")
    say(f"evaluating the dense network on {len(splits.test):,} test images")
    dense_evaluation = on_images(dense, splits.test)
    say("evaluating the gated network")
    evaluations = dense_evaluation, on_images(network, splits.test)
    home.add_seconds("calibration and evaluation", time.monotonic() - started)
    metrics = {
        **figures(*evaluations),
        "budget": recipe.budget,
        "seed": recipe.seed,
        "seconds": home.seconds(),
        **where(),
        **time_on_engine(dense, network, splits.test, recipe.hardware.threads, say),
    }
    write_text(home / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    return Run(home, recipe, splits, network, *evaluations, metrics)


@dataclass(frozen=True, eq=False)
class _Work:
    """The training stages of a run. Each leaves a file, and is skipped if the file is there."""

    recipe: Recipe
    splits: Splits
    folder: RunFolder
    method: Method
    dense: nn.Module
    teacher: nn.Module
    say: Callable[[str], None]
    progress_bar: bool

    def train_dense(self) -> bool:
        """Train the ungated model in place, or load what an earlier run made of it. Is this the first process?"""
        from safetensors.torch import load_file, save_file

        path, first = self.folder / "dense.safetensors", True
        if path.is_file():
            self.dense.load_state_dict(load_file(path))
            return True
        started = time.monotonic()
        if self.recipe.dense.epochs:
            self.say(f"training the dense network for {self.recipe.dense.epochs} epochs")
            first = self._fit("dense", self.dense)
        if first:
            with replacing(path) as temporary:
                tensors = {key: value.cpu().contiguous() for key, value in self.dense.state_dict().items()}
                save_file(tensors, temporary)
            self.folder.add_seconds("dense training", time.monotonic() - started)
        return first

    def train_gated(self, first: bool) -> tuple[GatedNetwork, bool]:
        """(The gated network, trained or as an earlier run left it; is this the first process?)."""
        path = self.folder / "gated.safetensors"
        if path.is_file():
            return checkpoint.load(path, self.dense, self.method), True
        started = time.monotonic()
        example = preparation(self.splits.train)(self.splits.train.images[:2])
        torch.manual_seed(self.recipe.seed + 1)
        network = gate(self.dense, self.method, example)
        if self.recipe.method.weights:
            self.method.load_pretrained(network, read_tensors(self.recipe.method.weights))
        self.say(network.plan.summary())
        if self.recipe.gated.epochs:
            self.say(f"training the gated network for {self.recipe.gated.epochs} epochs")
            first = self._fit("gated", network, method=self.method, teacher=teaching(self.recipe, self.teacher))
        return self._saved(network, path, "gated training", started) if first else network, first

    def finish(self, network: GatedNetwork, first: bool) -> tuple[GatedNetwork, bool]:
        """Calibrate, and train with gates that are held; returns what `train_gated` does."""
        path = self.folder / "finished.safetensors"
        if path.is_file():
            return checkpoint.load(path, self.dense, self.method), True
        if first:  # the others get its gates when training begins
            _calibrate(network.to(evaluation_device(self.recipe.hardware)), self.recipe, self.splits, self.say)
        started = time.monotonic()
        self.say(f"training for {self.recipe.finish.epochs} epochs with the gates held")
        first = self._fit("finish", network, teacher=teaching(self.recipe, self.teacher), hold_gates=True)
        return self._saved(network, path, "finish", started) if first else network, first

    def _fit(self, name: str, network: nn.Module, **how: Any) -> bool:
        """Train for one stage of the recipe. Is this the first process?"""
        stage: Stage = getattr(self.recipe, name)
        how |= {"say": self.say, "progress_bar": self.progress_bar}
        return fit(network, stage, self.splits, self.recipe, self.folder / name, **how).is_global_zero

    def _saved(self, network: GatedNetwork, path: Path, step: str, started: float) -> GatedNetwork:
        """Save a network that is trained; returns it as a later run would load it."""
        checkpoint.save(network, path)
        self.folder.add_seconds(step, time.monotonic() - started)
        return checkpoint.load(path, self.dense, self.method)


def _calibrate(network: GatedNetwork, recipe: Recipe, splits: Splits, say: Callable[[str], None]) -> None:
    if recipe.budget is not None:
        say(f"calibrating to {recipe.budget:.1%} of the dense MACs")
        images = splits.train.take(min(recipe.calibration_images, len(splits.train)), recipe.seed)
        prepare = preparation(splits.train)
        batches = [prepare(batch) for batch, _ in Batches(images, EVALUATION_BATCH)]

        def tell(number: int, share: float) -> None:
            say(f"  pass {number}: {share:.2%}")

        done = calibrate(network, batches, recipe.budget, on_pass=tell)
        say(f"calibrated to {done.reached:.3%} on {done.images} images in {done.passes} passes")
