"""Segmentation: a class for each pixel. Cross-entropy, mean IoU; a teacher's softened predictions, pixel by pixel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.data.normalise import normalise
from convgate.data.scenes import IGNORED, MaskSet
from convgate.errors import InputError, RecipeError
from convgate.gated.options import NotNegative, Positive, Size
from convgate.reading.modes import evaluating
from convgate.tasks.augment import augment_masks
from convgate.tasks.distillation import distillation
from convgate.tasks.registry import register_task
from convgate.tasks.task import Judge, Task

__all__ = ["Segmentation"]


@register_task("segmentation")
@dataclass(frozen=True)
class Segmentation(Task):
    """A class for each pixel.

    The network returns logits [N, classes, H, W] of the image's size, or, as torchvision's segmenters do, a mapping
    with them as "out" (and those of an auxiliary head as "aux").

    Args:
        crop: height and width of training images.
        scale: images are scaled by a random factor from this range before they are cropped.
        flip: mirror left and right with probability one half.
        colour: how far brightness, contrast and saturation are changed at random; 0 for not at all.
        weights: weight of each class in the cross-entropy; null for 1 each.
        auxiliary: weight of the cross-entropy of "aux".
        stride: a teacher is compared at every so many pixels, in each direction.

    """

    metric: ClassVar[str] = "mIoU"
    takes: ClassVar[type] = MaskSet

    crop: tuple[Size, ...] = (360, 480)
    scale: tuple[Positive, ...] = (0.5, 2.0)
    flip: bool = True
    colour: NotNegative = 0.3
    weights: tuple[NotNegative, ...] | None = None
    auxiliary: NotNegative = 0.4
    stride: Size = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.crop) != 2 or len(self.scale) != 2 or self.scale[0] > self.scale[1]:
            raise InputError(
                f"Segmentation(crop={self.crop}, scale={self.scale}): give height and width; least and most"
            )

    def augmented(self, images: MaskSet, batch: tuple[Any, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, labels = augment_masks(
            *batch,
            generator,
            crop=(self.crop[0], self.crop[1]),
            scale=(self.scale[0], self.scale[1]),
            flip=self.flip,
            colour=self.colour,
        )
        return normalise(x, images.mean, images.std), labels

    def prepared(self, images: MaskSet, batch: list[Tensor]) -> Tensor:
        """Images of one size; of several, give them one by one. Raises `InputError`."""
        if len({image.shape for image in batch}) > 1:
            raise InputError(f"images of {len(batch)} sizes make no batch; evaluate them one at a time")
        return normalise(torch.stack(batch), images.mean, images.std)

    def evaluation_batch(self, images: MaskSet, trained_with: int = 0) -> int:
        return 1

    def example(self, images: MaskSet, n: int = 1) -> Tensor:
        return super().example(images, 1)

    def check(self, model: nn.Module, images: MaskSet, field: str) -> None:
        x = self.example(images)
        with torch.no_grad(), evaluating(model):
            logits = _logits(model(x))
        expected = (len(x), len(images.classes), *x.shape[2:])
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
            given = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise RecipeError(
                f"the {field} returns {given} for images {list(x.shape)}, and the data set has {len(images.classes)} "
                f"classes: it must return logits {list(expected)}, or a mapping with them as 'out'; see "
                f"{field}.options"
            )

    def losses(self, output: Any, targets: Tensor, smoothing: float) -> Mapping[str, Tensor]:
        terms = {"cross_entropy": self._cross_entropy(_logits(output), targets, smoothing)}
        if isinstance(output, Mapping) and "aux" in output:
            terms["auxiliary"] = self.auxiliary * self._cross_entropy(output["aux"], targets, smoothing)
        return terms

    def _cross_entropy(self, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        weights = None if self.weights is None else logits.new_tensor(self.weights, dtype=torch.float32)
        if weights is not None and len(weights) != logits.shape[1]:
            raise RecipeError(
                f"task_options.weights has {len(weights)} values, and there are {logits.shape[1]} classes"
            )
        losses = F.cross_entropy(
            logits.float(), targets, weights, ignore_index=IGNORED, label_smoothing=smoothing, reduction="none"
        )
        # Not the mean of F.cross_entropy, which is NaN where no pixel of a batch has a label.
        counted = targets != IGNORED
        heft = counted.float() if weights is None else weights[targets.where(counted, 0)] * counted
        return losses.sum() / heft.sum().clamp(min=1e-6)

    def divergence(self, answer: Any, teacher: Any, temperature: float) -> Tensor:
        """That of `distillation`, over every `stride`-th pixel."""
        start, step = self.stride // 4, self.stride
        ours, theirs = (_logits(of)[..., start::step, start::step] for of in (answer, teacher))
        return distillation(ours, theirs, temperature=temperature)

    def draw(self, picture: Any, answer: Any, classes: tuple[str, ...]) -> Any:
        """Each pixel tinted by its class: hues evenly spaced in the order of the classes."""
        from PIL import Image

        palette = [Image.new("HSV", (1, 1), (256 * k // len(classes), 200, 230)) for k in range(len(classes))]
        tints = torch.tensor([hue.convert("RGB").getpixel((0, 0)) for hue in palette], dtype=torch.uint8)
        labels = _logits(answer)[0].argmax(0).cpu()
        return Image.blend(picture, Image.fromarray(tints[labels].numpy()).resize(picture.size), 0.55)

    def told(self, answer: Any, classes: tuple[str, ...]) -> Mapping[str, Any]:
        """The share of the pixels that each class has, of those that have any."""
        labels = _logits(answer)[0].argmax(0).flatten().cpu()
        counts = torch.bincount(labels, minlength=len(classes)).tolist()
        return {"pixels": {name: n / len(labels) for name, n in zip(classes, counts, strict=False) if n}}

    def judge(self, classes: tuple[str, ...]) -> Judge:
        return _MeanIoU(classes)


def _logits(output: Any) -> Any:
    return output["out"] if isinstance(output, Mapping) and "out" in output else output


class _MeanIoU(Judge):
    def __init__(self, classes: tuple[str, ...]) -> None:
        from torchmetrics.classification import MulticlassConfusionMatrix

        self.classes = classes
        # A binary problem has two classes here, too.
        self.counts = MulticlassConfusionMatrix(max(2, len(classes)), ignore_index=IGNORED)

    def add(self, output: Any, targets: list[Tensor]) -> None:
        predicted = _logits(output).argmax(1).cpu()
        for labels, one in zip(targets, predicted, strict=True):
            self.counts.update(one[None], labels[None].long().cpu())

    def scores(self) -> Mapping[str, float]:
        """Mean IoU over the classes that are there, or are predicted; that of each; the share of right pixels."""
        counts = self.counts.compute().double()
        right = counts.diagonal()
        union = counts.sum(0) + counts.sum(1) - right
        ious = {name: float(right[i] / union[i]) for i, name in enumerate(self.classes) if union[i] > 0}
        mean = sum(ious.values()) / max(1, len(ious))
        pixels = float(right.sum() / counts.sum().clamp(min=1))
        return {"mIoU": mean, "pixel accuracy": pixels, **{f"IoU of {name}": iou for name, iou in ious.items()}}
