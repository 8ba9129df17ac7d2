"""Classification: one class for each image. Cross-entropy, accuracy; a teacher's softened predictions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.data import Augmentation, ImageSet, normalise
from convgate.errors import RecipeError
from convgate.reading.modes import evaluating
from convgate.tasks.distillation import distillation
from convgate.tasks.registry import register_task
from convgate.tasks.task import Judge, Task

__all__ = ["Classification"]


@register_task("classification")
@dataclass(frozen=True)
class Classification(Task):
    """One class for each image. Its augmentation is the recipe's field `augmentation`."""

    metric: ClassVar[str] = "accuracy"
    whole_images: ClassVar[bool] = True
    takes: ClassVar[type] = ImageSet

    augmentation: Augmentation = field(default_factory=Augmentation)

    def with_augmentation(self, augmentation: Augmentation) -> "Classification":
        return replace(self, augmentation=augmentation)

    def augmented(
        self, images: ImageSet, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        x = self.augmentation(batch[0], generator, images.view)
        return normalise(x, images.mean, images.std), batch[1]

    def prepared(self, images: ImageSet, batch: Tensor) -> Tensor:
        return images.prepared(batch)

    def evaluation_batch(self, images: ImageSet, trained_with: int = 0) -> int:
        """At least what was trained with, 256 unless they are large.

        Without gradients, 256 images of 64 pixels take no more memory than a training step; and a method that decides
        for every value of every feature keeps masks as large as all features.
        """
        height, width = images.images.shape[2:] if images.view is None else (images.view, images.view)
        return max(trained_with, min(256, max(1, 2**20 // (height * width))))

    def check(self, model: nn.Module, images: ImageSet, field: str) -> None:
        with torch.no_grad(), evaluating(model):
            logits = model(images.example())
        classes = len(images.classes)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] != classes:
            given = list(logits.shape[1:]) if isinstance(logits, Tensor) else type(logits).__name__
            raise RecipeError(
                f"the {field} returns {given} for each image, and the data set has {classes} classes, numbered in "
                f"their own order; set {field}.options.num_classes to {classes}. For a network that knows more "
                "classes, convgate finetune finds the outputs by the classes' names"
            )

    def losses(self, output: Tensor, targets: Tensor, smoothing: float) -> Mapping[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(output.float(), targets, label_smoothing=smoothing)}

    def divergence(self, answer: Any, teacher: Any, temperature: float) -> Tensor:
        """That of `distillation`."""
        return distillation(answer, teacher, temperature=temperature)

    def judge(self, classes: tuple[str, ...]) -> Judge:
        return _Accuracy()


class _Accuracy(Judge):
    def __init__(self) -> None:
        from torchmetrics import MeanMetric

        self.accuracy, self.loss = MeanMetric(), MeanMetric()

    def add(self, output: Tensor, targets: Tensor) -> None:
        logits, labels = output.float().cpu(), targets.cpu()
        self.accuracy.update((logits.argmax(1) == labels).float())
        self.loss.update(F.cross_entropy(logits, labels, reduction="none"))

    def scores(self) -> Mapping[str, float]:
        return {"accuracy": float(self.accuracy.compute()), "loss": float(self.loss.compute())}
