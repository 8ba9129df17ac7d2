"""Run one training stage with Lightning: checkpoints, exact resume, logs, progress, several processes."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from convgate.calibration.measure import computes_in_bfloat16
from convgate.data import Batches, ImageSet, Splits
from convgate.errors import RecipeError
from convgate.memory_format import format_for_training
from convgate.methods import Method
from convgate.quantization import FakeQuantization
from convgate.recipes.recipe import Hardware, Recipe
from convgate.recipes.stages import FinishStage, Gates, Stage
from convgate.training.callbacks import History
from convgate.training.checkpoints import NAME, WholeFiles, begun
from convgate.training.compiling import as_otherwise, compile_network
from convgate.training.device import device_of
from convgate.training.distil import Teacher
from convgate.training.graphed import GraphedModule
from convgate.training.module import TrainingModule
from convgate.training.parts import build_task

__all__ = [
    "fit",
    "is_first_process",
    "lightning_precision",
    "training_steps",
]


def fit(
    network: nn.Module,
    stage: Stage,
    splits: Splits,
    recipe: Recipe,
    folder: Path,
    *,
    method: Method | None = None,
    teacher: Teacher | None = None,
    progress: bool = True,
) -> None:
    """Train `network` in place for one stage of `recipe`.

    `folder` gets a checkpoint, epochs.csv and, where TensorBoard is installed, its logs. Continues from the checkpoint
    in `folder` if there is one. With several processes, all of them return; `is_first_process` tells which one should
    write results. Raises `CheckpointError` for a damaged checkpoint.
    """
    hardware = recipe.hardware
    resume = begun(folder)
    module = _module(network, stage, splits, recipe, method, teacher)
    keep = ModelCheckpoint(folder, filename=NAME, enable_version_counter=False, save_on_train_epoch_end=True)
    callbacks: list[Callback] = [keep, History(folder / "epochs.csv")]
    if progress:
        callbacks.append(_ProgressBar(leave=False, console_kwargs={"stderr": True}))
    with _quiet(), _explained():
        trainer = _trainer(
            recipe,
            callbacks,
            plugins=[WholeFiles()],
            max_epochs=stage.epochs,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            strategy=_in_parallel() if recipe.processes > 1 else "auto",
            logger=TensorBoardLogger(folder, name=None, version="tensorboard") if find_spec("tensorboard") else False,
            enable_progress_bar=progress,
            num_sanity_val_steps=0,
            log_every_n_steps=50,
        )
        rank, world_size = trainer.global_rank, trainer.world_size
        train = Batches(
            splits.train,
            stage.batch_size,
            seed=recipe.seed,
            shuffle=True,
            rank=rank,
            world_size=world_size,
            drop_last=True,
            workers=hardware.workers,
        )
        validation = None
        if splits.holds_out:
            validation = Batches(
                splits.validation,
                module.task.evaluation_batch(splits.validation, stage.batch_size),
                rank=rank,
                world_size=world_size,
                workers=hardware.workers,
            )
        with module.watching, as_otherwise():
            trainer.fit(module, train, validation, ckpt_path=resume, weights_only=True)


def is_first_process() -> bool:
    """Whether this is the one process, of several that train together, that writes results."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def training_steps(
    network: nn.Module,
    stage: Stage,
    splits: Splits,
    recipe: Recipe,
    *,
    limit: int,
    callbacks: list[Callback],
    method: Method | None = None,
    teacher: Teacher | None = None,
) -> None:
    """Train `network` in place for `limit` steps of a stage, in one process, and leave no files; see `fit`."""
    module = _module(network, stage, splits, recipe, method, teacher)
    with _quiet(), _explained():
        trainer = _trainer(
            recipe,
            callbacks,
            max_epochs=-1,
            max_steps=limit,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        batches = Batches(
            splits.train,
            stage.batch_size,
            seed=recipe.seed,
            shuffle=True,
            drop_last=True,
            workers=recipe.hardware.workers,
        )
        with module.watching, as_otherwise():
            trainer.fit(module, batches)


def _module(
    network: nn.Module,
    stage: Stage,
    splits: Splits,
    recipe: Recipe,
    method: Method | None,
    teacher: Teacher | None,
) -> TrainingModule:
    """The module that trains the network, which is brought into the form that the recipe's hardware asks for."""
    hardware = recipe.hardware
    if hardware.graphs:
        _check_graphs(hardware, splits)
    task = build_task(recipe)
    fake = None
    if isinstance(stage, FinishStage) and stage.quantized:
        fake = FakeQuantization(network, task.example(splits.train))
    network.train()  # Lightning leaves the modes as they are, and what comes from a file is in evaluation mode
    memory_format = torch.contiguous_format
    if hardware.channels_last:
        memory_format = format_for_training(network, device_of(hardware))
    network.to(memory_format=memory_format)
    if hardware.compile and not hardware.graphs:
        compile_network(network)
    kind = partial(GraphedModule, compiled=hardware.compile) if hardware.graphs else TrainingModule
    return kind(
        network,
        stage,
        splits.train,
        task,
        seed=recipe.seed,
        method=method,
        teacher=teacher,
        hold_gates=stage.gates is Gates.HOLD,
        told=recipe.supervision if stage.gates is Gates.TRAIN else None,
        memory_format=memory_format,
        fake=fake,
    )


def _in_parallel() -> DDPStrategy:
    """Networks may be on GPUs, and scores are counted on the CPU: processes exchange both."""
    return DDPStrategy(process_group_backend="cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def _trainer(recipe: Recipe, callbacks: list[Callback], **how: Any) -> L.Trainer:
    accelerator = recipe.hardware.accelerator
    try:
        return L.Trainer(
            accelerator=accelerator,
            precision=lightning_precision(recipe.hardware),
            callbacks=callbacks,
            use_distributed_sampler=False,
            benchmark=recipe.hardware.graphs or None,  # what is chosen once is used for all replays
            enable_model_summary=False,
            **how,
        )
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"hardware: the accelerator {accelerator!r} needs a package that is not installed ({error}); install it or "
            "leave the choice to accelerator=auto"
        ) from error


def lightning_precision(hardware: Hardware) -> Any:
    """Lightning's name for the precision that a recipe asks for."""
    if hardware.precision == "auto":
        return "bf16-mixed" if computes_in_bfloat16(device_of(hardware)) else "32-true"
    return {"float32": "32-true", "bfloat16": "bf16-mixed"}[hardware.precision]


def _check_graphs(hardware: Hardware, splits: Splits) -> None:
    """Raise `RecipeError` where steps cannot be recorded and replayed."""
    if torch.version.cuda is None or device_of(hardware).type != "cuda":
        raise RecipeError(
            "hardware.graphs records steps on an NVIDIA GPU, and this run has none; set hardware.graphs to false"
        )
    if not isinstance(splits.train, ImageSet):
        raise RecipeError(
            "hardware.graphs repeats one step, for images of one size with a class each; these images have masks or "
            "boxes. Set hardware.graphs to false"
        )


class _ProgressBar(RichProgressBar):
    """Lightning's, on stderr, without the logger's version."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what Lightning says of settings that it cannot use into an error of ours, and Ctrl-C into what it was.

    Lightning meets a KeyboardInterrupt by exiting, and by ignoring any later one.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except MisconfigurationException as error:
        raise RecipeError(f"hardware: {error}") from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from error
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advertisements, and warnings about its own use of PyTorch."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode.*")
            warnings.filterwarnings("ignore", message="The number of training batches .*")
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty.*")
            yield
    finally:
        logger.setLevel(level)
