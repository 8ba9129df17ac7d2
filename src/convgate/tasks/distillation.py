"""The loss that needs no labels: how far a network's answers are from those of its teacher."""

import torch.nn.functional as F
from torch import Tensor

from convgate.errors import InputError

__all__ = ["distillation"]


def distillation(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """temperature^2 * KL(softmax(teacher / temperature) || softmax(student / temperature)), the batch's mean.

    The factor keeps the gradient's size independent of the temperature. Source: Hinton, Vinyals, Dean: Distilling the
    Knowledge in a Neural Network, 2015, section 2.

    Args:
        student: logits [N, classes] of the network in training, or [N, classes, H, W], of which every position is an
            answer: the mean is over these, too.
        teacher: logits of the same shape; no gradient goes into them.
        temperature: the higher, the more the unlikely classes count.

    Raises:
        InputError: two shapes that differ, or that are neither [N, classes] nor [N, classes, H, W].

    """
    if not isinstance(student, Tensor) or not isinstance(teacher, Tensor) or student.dim() not in (2, 4):
        raise InputError("distillation() takes two tensors of logits, [N, classes] or [N, classes, H, W] each")
    if student.shape != teacher.shape:
        raise InputError(
            f"the teacher answers {list(teacher.shape)} and the network {list(student.shape)}; give a teacher of the "
            "same classes"
        )
    ours = F.log_softmax(student.float() / temperature, 1)
    theirs = F.log_softmax(teacher.detach().float() / temperature, 1)
    return temperature**2 * F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1).mean()
