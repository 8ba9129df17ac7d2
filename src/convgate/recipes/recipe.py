"""Recipes: everything that a training run depends on, as validated plain data. `recipes.read` reads and writes them."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from convgate.augmentation import Augmentation
from convgate.recipes.stages import DenseStage, FinishStage, GatedStage, Stage, require

__all__ = ["DataChoice", "Distillation", "Hardware", "MethodChoice", "ModelChoice", "Recipe", "Supervision"]


@dataclass(frozen=True)
class ModelChoice:
    """Which network is gated.

    Args:
        name: as `convgate.models` takes it: cifar_resnet20, resnet18, timm/NAME, package.module:function, ..
        options: options of the builder, e.g. num_classes.
        weights: a file to start from; or "pretrained": what torchvision or timm publishes.
        rename: prefixes of the file's keys to replace, e.g. {linear: fc}.

    """

    name: str = "cifar_resnet20"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    rename: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataChoice:
    """Which images.

    Args:
        name: a registered data set: digits, cifar10, cifar100, imagenet, shards, ..
        options: options of its function in `convgate.data`, e.g. root.

    """

    name: str = "digits"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodChoice:
    """Which gating method.

    Args:
        name: the name of the method's class, e.g. DualGating; null: the network has no gates, and `gated` and `finish`
            train it further.
        masks: learned: gates decide for each image; random: they decide nothing, but masks that are the same for all
            images, drawn by the seed, spend the budget (to compare with).
        options: options of the method's class, but for its budget, which is the recipe's `budget`.
        weights: a weights file that a part of the method starts from, if it has one that is trained on its own.
        inside: sub-modules of a detector; only what is in them is gated and counted, so that shares of the MACs are
            shares of theirs. Empty: its whole convolutional part (see `convgate.gate`).

    """

    name: str | None = "DualGating"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    masks: Literal["learned", "random"] = "learned"
    inside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = {"options": self.options, "weights": self.weights, "masks": self.masks != "learned"}
        for name, value in given.items() if self.name is None else ():
            require(not value, f"method.{name}", value, "left out where method.name is null")

    @property
    def is_static(self) -> bool:
        """Whether nothing is decided by image: there are no gates, or their masks are fixed."""
        return self.name is None or self.masks != "learned"


@dataclass(frozen=True)
class Distillation:
    """A teacher in gated training: adds weight * T^2 * KL(teacher || network), both softened by the temperature T.

    Args:
        weight: weight of the term; 0: no teacher.
        convex: whether the cross-entropy is weighted with 1 - weight, so that the two add up to one; else with 1.
        temperature: the temperature T.
        teacher: another network of the same classes, with its own weights; null: the recipe's dense network.

    """

    weight: float = 0.0
    convex: bool = False
    temperature: float = 1.0
    teacher: ModelChoice | None = None

    def __post_init__(self) -> None:
        require(0 <= self.weight < math.inf, "weight", self.weight, "at least 0, and finite")
        require(not self.convex or self.weight <= 1, "weight", self.weight, "at most 1 in a convex sum")
        require(0 < self.temperature < math.inf, "temperature", self.temperature, "above 0, and finite")


@dataclass(frozen=True)
class Supervision:
    """Spatial gates told where objects are, as gated training begins: adds weight * their cross-entropy to the loss.

    Args:
        weight: weight of the term at the start; 0: they are not told.
        until: the share of the stage in which the weight falls evenly to 0.

    """

    weight: float = 0.0
    until: float = 0.3

    def __post_init__(self) -> None:
        require(0 <= self.weight < math.inf, "weight", self.weight, "at least 0, and finite")
        require(0 < self.until <= 1, "until", self.until, "in (0, 1]")


_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")


@dataclass(frozen=True)
class Hardware:
    """How the work is done. Several processes each take a batch, so together they take larger steps.

    Args:
        precision: auto: bfloat16 autocast where the processor computes in it natively, else float32.
        channels_last: keep images as NHWC in memory.
        compile: torch.compile the network: about a minute to start, then faster; for long runs.
        graphs: record training steps on an NVIDIA GPU and replay them: Python launches a small network's many short
            kernels one by one, a replay all at once. For one process and images with a class each. With `compile`, the
            whole step is compiled, and its kernels are few. A run that is continued ends in weights that differ by
            rounding.
        threads: threads of PyTorch in each process, and of the engine when it is timed; null: one per core.
        workers: processes that read images ahead, for data sets that are not held in memory; null: one per core.
        accelerator: cpu, gpu, .. or auto, as Lightning takes it.
        devices: processes on each machine (data-parallel if more than one).
        nodes: machines.
        timing_seconds: how long the finished network is timed on the engine beside the dense one; 0 for not at all.

    """

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    graphs: bool = False
    threads: int | None = None
    workers: int | None = None
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    timing_seconds: float = 4.0

    def __post_init__(self) -> None:
        require(self.threads is None or self.threads >= 1, "threads", self.threads, "at least 1, or null")
        require(self.workers is None or self.workers >= 0, "workers", self.workers, "at least 0, or null")
        require(self.devices >= 1, "devices", self.devices, "at least 1")
        require(self.nodes >= 1, "nodes", self.nodes, "at least 1")
        require(not self.graphs or self.devices * self.nodes == 1, "graphs", True, "false in runs of several processes")
        require(self.timing_seconds >= 0, "timing_seconds", self.timing_seconds, "at least 0")
        require(self.accelerator in _ACCELERATORS, "accelerator", self.accelerator, f"one of {_ACCELERATORS}")


@dataclass(frozen=True)
class Recipe:
    """A training run: dense training, gating, training with the method's penalty, calibration, finish, calibration.

    Args:
        title: what the run is, in a few words.
        task: what the network is trained for: classification, segmentation, detection, or one that is registered.
        task_options: options of the task, e.g. crop; see `convgate.tasks`.
        data: the images.
        augmentation: random crops and flips of images with a class each; other tasks have options of their own.
        model: the network.
        dense: training before gating (0 epochs: start from model.weights, or from scratch).
        method: how it is gated.
        gated: training after gating.
        finish: more training after calibration, in which the gates stay as they are and decide as in evaluation, so
            that the network adapts to what they leave; then calibration again. With `quantized` also to 8-bit integers.
        distillation: a teacher in gated training and finish.
        supervision: whether spatial gates are told where objects are, in tasks with boxes.
        budget: share of the dense MACs that the method trains to and is calibrated to; null: the method's own default
            in training, and no calibration. Of a network without gates it is a note, of whose MACs it is to have. A
            text such as 5ms sets `milliseconds` instead.
        milliseconds: how long the engine is to take for an image on this machine, with hardware.threads: the method
            trains to the share of the MACs that takes about as long, and is calibrated to the time. Null: a share.
        measured: which images the finished network is measured on: test; or validation, those that are held out, for
            runs from which settings are chosen.
        controls: what the run is to be compared with, by the names of `convgate.recipes.controls`.
        control: which of them this recipe is, if it is one; and
        control_of: of which recipe.
        calibration_images: how many training images to calibrate on, at most.
        seed: seed of everything random.
        hardware: how the work is done.

    """

    title: str = "convgate run"
    task: str = "classification"
    task_options: dict[str, Any] = field(default_factory=dict)
    data: DataChoice = field(default_factory=DataChoice)
    augmentation: Augmentation = field(default_factory=Augmentation)
    model: ModelChoice = field(default_factory=ModelChoice)
    dense: DenseStage = field(default_factory=DenseStage)
    method: MethodChoice = field(default_factory=MethodChoice)
    gated: GatedStage = field(default_factory=GatedStage)
    finish: FinishStage = field(default_factory=FinishStage)
    distillation: Distillation = field(default_factory=Distillation)
    supervision: Supervision = field(default_factory=Supervision)
    budget: float | None = None
    milliseconds: float | None = None
    measured: Literal["test", "validation"] = "test"
    controls: tuple[str, ...] = ()
    control: str = ""
    control_of: str = ""
    calibration_images: int = 2000
    seed: int = 0
    hardware: Hardware = field(default_factory=Hardware)

    def __post_init__(self) -> None:
        require(self.budget is None or 0 < self.budget <= 1, "budget", self.budget, "in (0, 1], or null")
        require(
            self.milliseconds is None or 0 < self.milliseconds < math.inf,
            "milliseconds",
            self.milliseconds,
            "above 0, or null",
        )
        if self.milliseconds is not None:
            require(self.budget is None, "budget", self.budget, "left out where milliseconds are given")
            require(not self.method.is_static, "milliseconds", self.milliseconds, "left out where no gates decide")
            require(self.processes == 1, "milliseconds", self.milliseconds, "left out in runs of several processes")
        require(self.calibration_images >= 1, "calibration_images", self.calibration_images, "at least 1")
        require(self.seed >= 0, "seed", self.seed, "at least 0")
        require(
            self.budget is not None or self.method.masks == "learned", "budget", self.budget, "given for random masks"
        )
        for kind in (DenseStage, GatedStage, FinishStage):
            object.__setattr__(self, kind.name, kind.like(getattr(self, kind.name)))
        if self.finish.quantized:
            # Ranges are looked at in the step, which waits for the device; compiled code has no place for that.
            for name in ("graphs", "compile"):
                allowed = "false where finish.quantized is true"
                require(not getattr(self.hardware, name), f"hardware.{name}", True, allowed)
            require(self.method.masks == "learned", "finish.quantized", True, "false for random masks")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in the order in which they are run, those without epochs included."""
        return self.dense, self.gated, self.finish

    @property
    def epochs(self) -> dict[str, int]:
        """The number of epochs of each stage, by its name, in the order in which they are run."""
        return {stage.name: stage.epochs for stage in self.stages}

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.hardware.devices * self.hardware.nodes
