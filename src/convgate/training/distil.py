"""Knowledge distillation: a fixed teacher whose softened predictions the network in training learns to match.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, section 2.
"""

import copy
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.tasks.classification import Classification
from convgate.tasks.task import Task

__all__ = ["Teacher"]


class Teacher:
    """A network that only predicts: a copy in evaluation mode, without gradients.

    No module on purpose: it is not trained, not in checkpoints, and not synchronised between processes.

    Args:
        network: images -> what the task is about, e.g. the dense network that a gated one was made from.
        weight: of the term.
        convex: whether the cross-entropy beside it is weighted with 1 - weight.
        temperature: T; the higher, the more the unlikely classes count.
        task: says what of the answers is compared, and how.

    """

    def __init__(
        self,
        network: nn.Module,
        *,
        weight: float = 1.0,
        convex: bool = False,
        temperature: float = 1.0,
        task: Task | None = None,
    ) -> None:
        if not weight > 0 or not temperature > 0:
            raise InputError(f"Teacher(weight={weight}, temperature={temperature}): both are above 0")
        if convex and weight > 1:
            raise InputError(f"Teacher(weight={weight}, convex=True): the weight is at most 1 in a convex sum")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.weight = weight
        self.convex = convex
        self.temperature = temperature
        self.task = Classification() if task is None else task
        # For good: the copy is nobody else's.
        self._watching = ExitStack()
        self._answer = self._watching.enter_context(self.task.watch(self.network))

    def predict(self, images: Any) -> Any:
        """The teacher's answer, e.g. logits [N, classes]."""
        first = images if isinstance(images, Tensor) else images[0]
        self.network.to(first.device)
        with torch.no_grad():
            return self._answer(self.network(images))

    @property
    def rest(self) -> float:
        """The weight of the cross-entropy beside the term."""
        return 1 - self.weight if self.convex else 1.0

    def term(self, images: Any, answer: Any) -> Tensor:
        """The loss term, a scalar: weight * divergence, of classification weight * T^2 * KL of the softened classes.

        T^2 keeps the gradient's size independent of T. Raises `InputError` where the two predict different classes.
        """
        return self.weight * self.task.divergence(answer, self.predict(images), self.temperature)
