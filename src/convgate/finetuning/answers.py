"""How a network answers images before anything is done to it: do its weights, the images and the labels fit?"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from convgate.finetuning.compare import check_logits, confidence, right

__all__ = ["Answers", "first_answers"]

_MANY = 20
# Images; fewer may well be of one class.


@dataclass(frozen=True)
class Answers:
    """How a network answers: its accuracy where labels are known, how sure it is (the mean largest probability), how
    many classes it names, of how many, for how many images.
    """

    accuracy: float | None
    confidence: float
    named: int
    outputs: int
    images: int

    @property
    def doubtful(self) -> bool:
        """Whether they look like guesses: hardly more right, or hardly surer, than one in so many outputs."""
        chance = 3 / self.outputs
        wrong = self.accuracy is not None and self.outputs > 3 and self.accuracy <= chance
        return wrong or (self.outputs > 3 and self.confidence <= chance) or (self.named == 1 and self.images >= _MANY)

    def __str__(self) -> str:
        right = "" if self.accuracy is None else f"accuracy {self.accuracy:.1%}, "
        return (
            f"{right}mean confidence {self.confidence:.1%}, {self.named} of {self.outputs} classes named, on "
            f"{self.images} images that are not trained on"
        )


@torch.no_grad()
def first_answers(model: nn.Module, batches: list[Any]) -> Answers:
    """How a dense network answers batches of images, or of (images, labels)."""
    confident = found_right = 0.0
    images = labelled = outputs = 0
    named: set[int] = set()
    for batch in batches:
        logits = check_logits(model(batch[0] if isinstance(batch, tuple) else batch))
        confident += float(confidence(logits).sum())
        images, outputs = images + len(logits), logits.shape[1]
        named |= set(logits.argmax(1).unique().tolist())
        if isinstance(batch, tuple):
            shares = right(logits, batch[1])
            labelled += int((~shares.isnan()).sum())
            found_right += float(shares.nansum())
    return Answers(found_right / labelled if labelled else None, confident / images, len(named), outputs, images)
