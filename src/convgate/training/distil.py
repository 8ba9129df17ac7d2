"""Knowledge distillation: a fixed teacher whose softened predictions the network in training learns to match.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, section 2.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.errors import InputError

__all__ = ["Teacher"]


class Teacher:
    """A network that only predicts: a copy in evaluation mode, without gradients.

    No module on purpose: it is not trained, not in checkpoints, and not synchronised between processes.

    Args:
        network: images -> logits [N, classes], e.g. the dense network that a gated one was made from.
        weight: of the term.
        convex: whether the cross-entropy beside it is weighted with 1 - weight.
        temperature: T; the higher, the more the unlikely classes count.

    """

    def __init__(
        self, network: nn.Module, *, weight: float = 1.0, convex: bool = False, temperature: float = 1.0
    ) -> None:
        if not weight > 0 or not temperature > 0:
            raise InputError(f"Teacher(weight={weight}, temperature={temperature}): both are above 0")
        if convex and weight > 1:
            raise InputError(f"Teacher(weight={weight}, convex=True): the weight is at most 1 in a convex sum")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.weight = weight
        self.convex = convex
        self.temperature = temperature

    def predict(self, images: Tensor) -> Tensor:
        """The teacher's logits [N, classes]."""
        self.network.to(images.device)
        with torch.no_grad():
            return self.network(images)

    @property
    def rest(self) -> float:
        """The weight of the cross-entropy beside the term."""
        return 1 - self.weight if self.convex else 1.0

    def term(self, images: Tensor, logits: Tensor) -> Tensor:
        """The loss term, a scalar: weight * T^2 * KL(softmax(teacher / T) || softmax(logits / T)), the batch's mean.

        T^2 keeps the gradient's size independent of T. Raises `InputError` where the two predict different classes.
        """
        theirs = self.predict(images)
        if not isinstance(theirs, Tensor) or theirs.shape != logits.shape:
            given = list(theirs.shape) if isinstance(theirs, Tensor) else type(theirs).__name__
            raise InputError(
                f"the teacher returns {given} and the network in training {list(logits.shape)}; give a teacher of the "
                "same classes"
            )
        student, teacher = (F.log_softmax(values.float() / self.temperature, dim=1) for values in (logits, theirs))
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.weight * self.temperature**2 * divergence
