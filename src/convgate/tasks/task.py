"""What a task is: how its images are prepared and augmented, what is learned from, and what a network is judged by.

Training, evaluation and runs know this class alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convgate.augmentation import Augmentation
from convgate.errors import RecipeError
from convgate.gated.options import check_options

__all__ = ["Judge", "Task"]

_PLAIN = "images with a class each"


class Judge(ABC):
    """Collects a network's answers over a set of images, batch by batch, and judges them.

    With several processes, `scores` is about the answers of all of them.
    """

    @abstractmethod
    def add(self, output: Any, targets: Any) -> None:
        """Take what the network returned in evaluation, and the targets of the same batch."""

    @abstractmethod
    def scores(self) -> Mapping[str, float]:
        """Name -> value; the first is the one that the task is about, in [0, 1], the higher the better."""


@dataclass(frozen=True)
class Task(ABC):
    """A task; its fields are what recipes call `task_options`, checked by their types."""

    metric: ClassVar[str]
    """Name of the first of the scores."""
    whole_images: ClassVar[bool] = False
    """Whether an answer is one class for each image, as the page of pictures and fixed units suppose."""
    takes: ClassVar[type]
    """The kind of set that it learns from: `ImageSet`, `MaskSet` or `BoxSet`."""

    def __post_init__(self) -> None:
        check_options(self)

    # -- images ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def augmented(self, images: Any, batch: tuple[Any, Any], generator: torch.Generator) -> tuple[Any, Any]:
        """A training batch of the set `images`, augmented and prepared: (input of the network, targets)."""

    def with_augmentation(self, augmentation: Augmentation) -> "Task":
        """The task with the recipe's field `augmentation`, which is about whole images.

        Raises `RecipeError` where that is set and the task has an augmentation of its own, among its options.
        """
        if augmentation != Augmentation():
            raise RecipeError(
                f"augmentation is {augmentation}, and it is of images with a class each; the task "
                f"{type(self).__name__.lower()} augments as task_options say"
            )
        return self

    @abstractmethod
    def prepared(self, images: Any, batch: Any) -> Any:
        """The images of a batch of the set `images`, as the network takes them in evaluation."""

    @abstractmethod
    def evaluation_batch(self, images: Any, trained_with: int = 0) -> int:
        """How many images of the set are evaluated at once."""

    def example(self, images: Any, n: int = 2) -> Any:
        """The first `n` images of a set as the network takes them."""
        return self.prepared(images, images.batch(torch.arange(min(n, len(images))))[0])

    # -- the network -----------------------------------------------------------------------------------------------

    @abstractmethod
    def check(self, model: nn.Module, images: Any, field: str) -> None:
        """Raise `RecipeError` unless the model of the recipe's `field` returns what the task is about."""

    def arguments(self, x: Any, targets: Any) -> tuple[Any, ...]:
        """What the network is called with in training."""
        return (x,)

    @abstractmethod
    def losses(self, output: Any, targets: Any, smoothing: float) -> Mapping[str, Tensor]:
        """The terms of the loss, scalars, of what the network returned in training.

        `smoothing` is the recipe's label smoothing, of tasks that have a cross-entropy.
        """

    def regions(self, x: Any, targets: Any) -> Tensor:
        """Where objects are in a training batch: float32 [N, 1, H, W], 1 or 0, H and W of its largest image.

        Raises `RecipeError` for a task that has none.
        """
        raise RecipeError(
            f"supervision: the task {type(self).__name__.lower()} has no objects with boxes; set "
            "supervision.weight to 0"
        )

    # -- a teacher -------------------------------------------------------------------------------------------------

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[Callable[[Any], Any]]:
        """Yield a function: what the network has just returned -> what a teacher's answer is compared with.

        Afterwards nothing is left on the network.
        """
        yield lambda output: output

    @abstractmethod
    def divergence(self, answer: Any, teacher: Any, temperature: float) -> Tensor:
        """How far an answer is from the teacher's, a scalar; a gradient's size does not depend on the temperature."""

    def draw(self, picture: Any, answer: Any, classes: tuple[str, ...]) -> Any:
        """A picture (PIL) of an image with what the network answered for it, a batch of one, drawn in."""
        return picture

    def told(self, answer: Any, classes: tuple[str, ...]) -> Mapping[str, Any]:
        """What the network answered for a batch of one, as plain data with the names of the classes."""
        return {}

    # -- judging ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def judge(self, classes: tuple[str, ...]) -> Judge:
        """A new judge for images of these classes."""

    def require(self, images: Any) -> None:
        """Raise `RecipeError` for a set of another kind than the task learns from."""
        if not isinstance(images, self.takes):
            raise RecipeError(
                f"the data hold {getattr(images, 'holds', _PLAIN)}, and the task "
                f"{type(self).__name__.lower()} learns from {getattr(self.takes, 'holds', _PLAIN)}; "
                "choose another task or another data set"
            )
