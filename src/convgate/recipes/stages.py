"""The stages of training that a recipe has: how long each is, how it optimises, and what becomes of the gates."""

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, ClassVar, Literal, TypeVar

from convgate.errors import RecipeError

__all__ = ["DenseStage", "FinishStage", "GatedStage", "Gates", "Stage", "require"]

AnyStage = TypeVar("AnyStage", bound="Stage")


class Gates(Enum):
    """What a stage does with the gates."""

    NONE = "none yet"
    TRAIN = "trained, with the method's loss terms"
    HOLD = "held, deciding as in evaluation"


@dataclass(frozen=True)
class Stage:
    """One training stage. With 0 epochs the stage is left out.

    Args:
        epochs: passes over the training images.
        batch_size: images per step and process.
        lr: learning rate after the warm-up.
        gate_lr: the gates' learning rate, as a multiple of `lr`.
        gate_decay: weight decay of the gates' parameters.
        optimiser: sgd: stochastic gradient descent; rmsprop: gradients over the root of their mean squares.
        momentum: momentum, in [0, 1).
        nesterov: whether to use Nesterov's form of momentum.
        square_decay: rmsprop: how much of the mean of the squares is kept in each step, in [0, 1).
        epsilon: rmsprop: added to the root of the mean square.
        weight_decay: weight decay of all parameters but those of the gates.
        decay_vectors: whether one-dimensional parameters (scales and shifts of norms, biases) are decayed, too.
        schedule: cosine: to 0, per step; steps: times `gamma` at each of `milestones`; exponential: evenly, per step,
            to `gamma` times the rate at the end; polynomial: to 0, as the share that is left to the `power`.
        milestones: where the rate steps down, as shares of the stage, in (0, 1).
        gamma: the factor at each milestone, or of the whole stage with the exponential schedule; above 0.
        power: of the polynomial schedule; above 0.
        warmup: share of the stage in which the learning rate rises from 0.
        label_smoothing: label smoothing of the cross-entropy, in [0, 1).

    """

    name: ClassVar[str] = "stage"
    """The field of the recipe that it stands in, and the folder of its files."""
    gates: ClassVar[Gates] = Gates.TRAIN

    epochs: int = 0
    batch_size: int = 128
    lr: float = 0.1
    gate_lr: float = 1.0
    gate_decay: float = 0.0
    optimiser: Literal["sgd", "rmsprop"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    square_decay: float = 0.9
    epsilon: float = 1.0
    weight_decay: float = 5e-4
    decay_vectors: bool = True
    schedule: Literal["cosine", "steps", "exponential", "polynomial"] = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    power: float = 0.9
    warmup: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self.epochs >= 0, "epochs", self.epochs, "at least 0")
        require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2")
        require(self.lr > 0, "lr", self.lr, "above 0")
        require(self.gate_lr >= 0, "gate_lr", self.gate_lr, "at least 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        require(self.gate_decay >= 0, "gate_decay", self.gate_decay, "at least 0")
        require(0 <= self.square_decay < 1, "square_decay", self.square_decay, "in [0, 1)")
        require(self.epsilon > 0, "epsilon", self.epsilon, "above 0")
        require(self.gamma > 0, "gamma", self.gamma, "above 0")
        require(self.power > 0, "power", self.power, "above 0")
        require(all(0 < m < 1 for m in self.milestones), "milestones", self.milestones, "shares in (0, 1)")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "in [0, 1)")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")

    @property
    def leaves_a_network(self) -> bool:
        """Whether there is a network of its own after it: not after a finish without epochs."""
        return self.epochs > 0 or self.gates is not Gates.HOLD

    @classmethod
    def like(cls: type[AnyStage], other: "Stage") -> AnyStage:
        """A stage of this kind with the settings of another."""
        return other if type(other) is cls else cls(**asdict(other))


@dataclass(frozen=True)
class DenseStage(Stage):
    """Training of the ungated network."""

    name: ClassVar[str] = "dense"
    gates: ClassVar[Gates] = Gates.NONE


@dataclass(frozen=True)
class GatedStage(Stage):
    """Training of the gated network with its method's loss terms."""

    name: ClassVar[str] = "gated"
    gates: ClassVar[Gates] = Gates.TRAIN


@dataclass(frozen=True)
class FinishStage(Stage):
    """Training after calibration, with gates that are held, so that the network adapts to what they leave.

    Args:
        quantized: layers round their weights and what they read as `convgate.quantize` will, in training and in this
            stage's validation, so that the network adapts to 8-bit integers, too. What is measured in the end is the
            network in floats. Without `hardware.graphs` and `hardware.compile`.

    """

    name: ClassVar[str] = "finish"
    gates: ClassVar[Gates] = Gates.HOLD

    quantized: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.quantized or self.epochs > 0, "quantized", True, "false in a finish of no epochs")


def require(holds: bool, name: str, value: Any, allowed: str) -> None:
    """Raise `RecipeError` for a field's value that is not allowed."""
    if not holds:
        raise RecipeError(f"{name} is {value!r}; it must be {allowed}")
