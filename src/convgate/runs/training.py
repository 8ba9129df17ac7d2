"""The training of a run: dense training, gating, gated training, calibration, finish, evaluation.

Each training stage leaves a file behind when it is complete, and is skipped if the file is there: a run that was
interrupted is continued by starting it again, and is then calibrated and evaluated. A finished one is left as it is.
"""

import copy
import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convgate import checkpoint
from convgate.analysis import Evaluation, Judged, Metrics
from convgate.calibration import calibrate, share_of_time
from convgate.calibration.price import Macs
from convgate.data import Batches
from convgate.data import load as load_data
from convgate.engine.compile import compile as compile_engine
from convgate.errors import RecipeError
from convgate.extras import missing
from convgate.files import replacing, write_text
from convgate.gated import GatedModel, GatedNetwork
from convgate.latency import LatencyModel, fit_latency
from convgate.latency import Origin as Origins
from convgate.latency import load as load_latency
from convgate.latency import save as save_latency
from convgate.quantization import FakeQuantization
from convgate.recipes.recipe import Recipe
from convgate.recipes.stages import Gates, Stage
from convgate.runs.folder import RunFolder
from convgate.runs.measure import calibration_images, on_images, static_figures, time_on_engine
from convgate.runs.origin import Origin
from convgate.runs.report import Evaluations, write_report_of
from convgate.runs.run import Run
from convgate.runs.ungated import ungated_macs
from convgate.training.device import device_of
from convgate.training.fit import fit, is_first_process
from convgate.training.parts import (
    build_gated,
    build_method,
    build_model,
    build_static,
    build_task,
    build_teacher,
    teaching,
)
from convgate.undisturbed import undisturbed
from convgate.weights import read_tensors

__all__ = ["TrainingRun"]

_LOG = logging.getLogger(__name__)
_LOOKED_AT = 500
# Training images on which a network that came trained is looked at before it is gated.


class TrainingRun:
    """A recipe that is being carried out in a folder.

    Making one loads the images, builds the networks and checks what can be checked before training; nothing is written.

    Args:
        recipe: what to do.
        folder: where; made if need be. One that holds another recipe's run is refused.
        progress: show Lightning's progress bars.

    Raises:
        RecipeError: the folder holds a run of another recipe.
        ConvgateError: the data, the model or the method cannot be used as asked.

    """

    def __init__(self, recipe: Recipe, folder: str | Path, *, progress: bool = True) -> None:
        self.asked = self.recipe = recipe
        self.folder = RunFolder(folder)
        self.latency: LatencyModel | None = None
        self.progress = progress
        self.folder.check(recipe)
        self.splits = load_data(recipe.data.name, **recipe.data.options)
        if recipe.measured == "validation" and not self.splits.holds_out:
            raise RecipeError(
                "measured is validation, and no images are held out; set data.options.validation to how many are"
            )
        self.measured = self.splits.validation if recipe.measured == "validation" else self.splits.test
        self.task = build_task(recipe)
        self.task.require(self.splits.train)
        self.method = build_method(recipe)
        with undisturbed(recipe.hardware.threads):
            torch.manual_seed(recipe.seed)
            self.dense = build_model(recipe.model)
            self.task.check(self.dense, self.splits.train, "model")
            self.teacher = build_teacher(recipe, self.splits) or self.dense
            if recipe.milliseconds is not None:
                self._share_of_time(recipe.milliseconds)
            self._check_gating()

    def carry_out(self, origin: Origin | None = None) -> Run | None:
        """Do what is not done yet; returns the finished run, or None in all but the first of several processes.

        Writes recipe.yaml, origin.json (if `origin` is given), dense.safetensors (state dict), gated.safetensors
        (trained), finished.safetensors (if the recipe has a finish), network.safetensors (calibrated; see
        `convgate.load`), metrics.json, report.html, and per stage a folder with epochs.csv, a checkpoint and logs.
        What is there is not made again, but for the network as it is calibrated, the metrics and the page. Raises
        `RecipeError` where another process is at work in the folder.
        """
        is_new = not self.folder.path.exists()
        self.folder.claim(self.asked, origin)
        with self.folder.held() if is_first_process() else nullcontext():
            if self.latency is not None:
                save_latency(self.latency, self.folder.latency)
            try:
                with undisturbed(self.recipe.hardware.threads):
                    return self._carry_out()
            except Exception:
                if is_new and is_first_process() and not self.folder.has_begun():
                    self.folder.discard()  # a run that failed before it trained leaves nothing
                raise

    def _carry_out(self) -> Run | None:
        if is_first_process():
            self.folder.metrics.unlink(missing_ok=True)  # those of what is about to be replaced
        network: nn.Module = self.dense
        for stage in self.recipe.stages:
            network = self._after(stage, network)
        if not is_first_process():
            return None
        started = time.monotonic()
        device = device_of(self.recipe.hardware)
        dense, network = self.dense.to(device), network.to(device)
        if isinstance(network, GatedNetwork | GatedModel):
            self._calibrate(network)
        self._save(network, self.folder.network)
        evaluations = self._evaluate(dense, network)
        recipe = self.recipe
        known: dict[str, Any] = {"budget": recipe.budget, "seed": recipe.seed, "measured": recipe.measured}
        if isinstance(network, GatedNetwork | GatedModel):
            known |= self._compared(dense, network, evaluations[1])
        self.folder.add_seconds("calibration and evaluation", time.monotonic() - started)
        macs = ungated_macs(network, self.measured, self.task) if self.method is None else None
        metrics = replace(Metrics.of(*evaluations, macs, device), seconds=self.folder.seconds(), **known)
        write_text(self.folder.metrics, metrics.to_json())
        run = Run.load(self.folder.path)
        if isinstance(network, GatedNetwork | GatedModel):
            self._report(run, network, evaluations)
        return run

    def _report(self, run: Run, network: GatedNetwork | GatedModel, evaluations: Evaluations) -> None:
        try:
            write_report_of(run, network, evaluations, self.splits)
        except ModuleNotFoundError as error:
            if missing(error) is None:
                raise
            _LOG.info("no report.html: %s", missing(error))

    # -- stages ----------------------------------------------------------------------------------------------------

    def _after(self, stage: Stage, network: nn.Module) -> nn.Module:
        """The network as it is when the stage is complete: trained now, or loaded if an earlier run trained it."""
        path = self.folder.after(stage)
        if not stage.leaves_a_network:
            return network
        if path.is_file():
            return self._loaded(stage, path)
        started = time.monotonic()
        network = self._before(stage, network)
        if stage.epochs:
            _LOG.info("%s training for %d epochs; gates: %s", stage.name, stage.epochs, stage.gates.value)
            fit(
                network,
                stage,
                self.splits,
                self.recipe,
                self.folder.during(stage),
                method=self.method
                if stage.gates is Gates.TRAIN and isinstance(network, GatedNetwork | GatedModel)
                else None,
                teacher=None if stage.gates is Gates.NONE else teaching(self.recipe, self.teacher),
                progress=self.progress,
            )
        elif stage.gates is Gates.NONE and self.recipe.model.weights and is_first_process():
            self._look()
        if is_first_process():
            self._save(network, path)
            self.folder.add_seconds(f"{stage.name} training", time.monotonic() - started)
            network = self._loaded(stage, path)
        elif stage.gates is Gates.NONE:
            self._as_loaded(network)
        return network

    def _look(self) -> None:
        """Say how a network that came trained answers some training images: whether weights, images and labels fit."""
        images = self.splits.train
        some = images.take(min(_LOOKED_AT, len(images)), self.recipe.seed)
        dense = self.dense.to(device_of(self.recipe.hardware))
        found = on_images(dense, some, self.task, workers=self.recipe.hardware.workers)
        score, classes = found.accuracy, len(images.classes)
        _LOG.info("the dense network as it came: %s %.1f%% on %d training images", found.metric, 100 * score, len(some))
        if isinstance(found, Evaluation) and classes > 3 and score <= 3 / classes:
            _LOG.warning(
                "these answers look like guesses: do model.weights belong to these images, and are the network's "
                "outputs in the order of the classes (%s, ..)?",
                ", ".join(map(str, images.classes[:3])),
            )

    def _before(self, stage: Stage, network: nn.Module) -> nn.Module:
        """What a stage begins with, made from what the stage before it left."""
        if stage.gates is Gates.TRAIN:
            return self._static() if self.recipe.method.is_static else self._gated()
        if stage.gates is Gates.HOLD and is_first_process():  # the others get its gates when training begins
            network = network.to(device_of(self.recipe.hardware))
            if isinstance(network, GatedNetwork | GatedModel):
                self._calibrate(network)
        return network

    def _gated(self) -> GatedNetwork | GatedModel:
        assert self.method is not None
        torch.manual_seed(self.recipe.seed + 1)
        network: GatedNetwork | GatedModel = build_gated(self.recipe, self.dense, self.method, self.splits)
        if self.task.whole_images:
            network.preparation = self.splits.train.preparation
        if self.recipe.method.weights:
            self.method.load_pretrained(network.convgate, read_tensors(self.recipe.method.weights))
        elif network.convgate.trunk is not None and self.recipe.gated.epochs:
            _LOG.warning(
                "method.weights is not set, so the network that %s's gates share starts at random; its paper trains it "
                "on the task first, on its own",
                self.recipe.method.name,
            )
        _LOG.info("%s", network.plan.summary())
        return network

    def _static(self) -> nn.Module:
        """The network without gates that decide; a copy, for the dense one stays, to teach and to compare with."""
        torch.manual_seed(self.recipe.seed + 1)
        return build_static(self.recipe, copy.deepcopy(self.dense), self.splits)

    def _share_of_time(self, milliseconds: float) -> None:
        """Which share of the MACs takes so long: the recipe and its method train to that."""
        assert self.method is not None
        with torch.random.fork_rng(devices=[]):
            network = build_gated(self.recipe, build_model(self.recipe.model, weights=False), self.method, self.splits)
        engine = compile_engine(network.eval(), threads=self.recipe.hardware.threads)
        model = load_latency(self.folder.latency) if self.folder.latency.is_file() else None
        if model is None or model.origin != Origins.of(engine, model.origin.clock):
            _LOG.info("timing the operations of the engine")
            model = fit_latency(engine)
        share = share_of_time(network, model, milliseconds)
        _LOG.info(
            "%.4g ms on %d thread(s) are about %.1f%% of the dense MACs", milliseconds, engine.threads, 100 * share
        )
        self.latency = model
        self.recipe = replace(self.recipe, budget=share, milliseconds=None)
        self.method = build_method(self.recipe)

    def _check_gating(self) -> None:
        """Find out before training whether the model can be gated, and the budget reached."""
        if self.folder.network.is_file():
            return
        if self.method is None:
            self._check_rounding(self.dense)
            return
        with torch.random.fork_rng(devices=[]):
            network = build_gated(self.recipe, build_model(self.recipe.model, weights=False), self.method, self.splits)
        if self.recipe.budget is not None:
            Macs(network).check(self.recipe.budget)
        self._check_rounding(network)

    def _check_rounding(self, network: nn.Module) -> None:
        if self.recipe.finish.quantized:
            FakeQuantization(network, self.task.example(self.splits.train))

    def _save(self, network: nn.Module, path: Path) -> None:
        from safetensors.torch import save_file

        if isinstance(network, GatedNetwork | GatedModel):
            checkpoint.save(network, path)
            return
        with replacing(path) as temporary:
            save_file({key: value.cpu().contiguous() for key, value in network.state_dict().items()}, temporary)

    def _loaded(self, stage: Stage, path: Path) -> nn.Module:
        """A stage's network as a later run would load it, so that an interrupted one ends in the same weights."""
        from safetensors.torch import load_file

        if stage.gates is not Gates.NONE and self.recipe.method.is_static:
            network = self._static()
            network.load_state_dict(load_file(path))
            return self._as_loaded(network)
        if stage.gates is not Gates.NONE:
            return checkpoint.load(path, self.dense, self.method)
        self.dense.load_state_dict(load_file(path))
        return self._as_loaded(self.dense)

    def _as_loaded(self, network: nn.Module) -> nn.Module:
        # In another memory format sums are rounded differently.
        return network.to(memory_format=torch.contiguous_format)

    # -- what comes after training ---------------------------------------------------------------------------------

    def _calibrate(self, network: GatedNetwork | GatedModel) -> None:
        if self.recipe.budget is None:
            return
        # What its gates close it was trained to do without: its answers with all of them open say nothing about it.
        if self.asked.milliseconds is None:
            _LOG.info("calibrating to %.1f%% of the dense MACs", 100 * self.recipe.budget)
            done = calibrate(network, _CalibrationImages(self), self.recipe.budget, agreement=False)
        else:
            _LOG.info("calibrating to %.4g ms", self.asked.milliseconds)
            done = calibrate(
                network,
                _CalibrationImages(self),
                milliseconds=self.asked.milliseconds,
                engine=compile_engine(network, threads=self.recipe.hardware.threads),
                latency=self.latency,
                agreement=False,
            )
            _LOG.info("calibrated to %.4g ms on the engine", done.reached)
        _LOG.info("calibrated to %.3f%% on %d images in %d passes", 100 * done.macs, done.images, done.passes)

    def _evaluate(self, dense: nn.Module, network: nn.Module) -> tuple[Evaluation | Judged, Evaluation | Judged]:
        _LOG.info("evaluating the dense network on %s %s images", f"{len(self.measured):,}", self.recipe.measured)
        workers = self.recipe.hardware.workers
        before = on_images(dense, self.measured, self.task, workers=workers)
        _LOG.info("evaluating what was made of it")
        return before, on_images(network, self.measured, self.task, workers=workers)

    def _compared(
        self, dense: nn.Module, network: GatedNetwork | GatedModel, measured: Evaluation | Judged
    ) -> dict[str, Any]:
        """The gated network beside the dense one, timed, and beside itself with each unit fixed at its majority."""
        hardware, static = self.recipe.hardware, None
        if isinstance(measured, Evaluation) and isinstance(network, GatedNetwork):
            _LOG.info("evaluating the gated network with its units fixed at their majorities")
            some = calibration_images(self.recipe, self.splits)
            static = static_figures(network, measured, some, self.measured, self.task, workers=hardware.workers)
        seconds = hardware.timing_seconds
        latency = time_on_engine(dense, network, self.measured, self.task, hardware.threads, seconds)
        return {"static": static, "latency": latency}


class _CalibrationImages:
    """Batches of training images as the network takes them, read anew each time they are gone through."""

    def __init__(self, work: TrainingRun) -> None:
        recipe = work.recipe
        self.images = calibration_images(recipe, work.splits)
        self.task = work.task
        self.batches = Batches(self.images, self.task.evaluation_batch(self.images), workers=recipe.hardware.workers)

    def __iter__(self) -> Iterator[Any]:
        return (self.task.prepared(self.images, batch) for batch, _ in self.batches)
