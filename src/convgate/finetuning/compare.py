"""Answers of two networks compared, image by image: a classifier has one for an image, a map one for each position."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from convgate.errors import InputError

__all__ = ["UNLABELLED", "check_logits", "confidence", "divergence", "right", "same", "targets"]

UNLABELLED = -100
"""What `F.cross_entropy` does not count."""


def check_logits(logits: Any) -> Tensor:
    """`logits`, if they are [N, classes] or [N, classes, H, W].

    Raises:
        InputError: they are something else.

    """
    if isinstance(logits, Tensor) and logits.dim() in (2, 4):
        return logits
    what = f"of shape {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    raise InputError(
        f"finetune() compares logits, [N, classes] or [N, classes, H, W], and the network's output is {what}; give a "
        "model that returns its logits alone (around one that returns more, a module of a few lines does)"
    )


def same(logits: Tensor, theirs: Tensor) -> Tensor:
    """The share of each image's answers for which both name the same class, float64 [N]."""
    return _mean(logits.argmax(1) == theirs.argmax(1))


def confidence(logits: Tensor) -> Tensor:
    """The largest probability, the mean of each image's answers, float64 [N]."""
    return _mean(logits.softmax(1).amax(1))


def divergence(logits: Tensor, theirs: Tensor) -> Tensor:
    """KL(softmax(theirs) || softmax(logits)) in nats, the mean of each image's answers, float64 [N]."""
    apart = F.kl_div(logits.log_softmax(1), theirs.log_softmax(1), reduction="none", log_target=True)
    return _mean(apart.sum(1))


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of each image's labelled answers that are right, float64 [N]; NaN of an image without any."""
    wanted = targets(logits, labels)
    counted = (wanted != UNLABELLED).double().reshape(len(wanted), -1)
    hits = (logits.argmax(1) == wanted).double().reshape(len(wanted), -1)
    return (hits * counted).sum(1) / counted.sum(1)


def targets(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels as `F.cross_entropy` takes them for these logits, int64 [N] or [N, H, W].

    Labels of maps follow the maps' size (the nearest label), and what names none of the classes is unlabelled. A
    classifier's labels stay as they are.
    """
    if logits.dim() == 2:
        return labels
    if labels.shape[1:] != logits.shape[2:]:
        labels = F.interpolate(labels[:, None].float(), size=logits.shape[2:])[:, 0].to(labels.dtype)
    return labels.long().masked_fill((labels < 0) | (labels >= logits.shape[1]), UNLABELLED)


def _mean(answers: Tensor) -> Tensor:
    return answers.double().reshape(len(answers), -1).mean(1)
