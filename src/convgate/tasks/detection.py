"""Detection: boxes with classes and scores. A detector's own losses; COCO's average precision.

Detectors are called as torchvision's are: `detector(images, targets)` returns a mapping of losses in training,
`detector(images)` in evaluation for each image {"boxes": [M, 4], "scores": [M], "labels": [M]}, labels from 1.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from convgate.data.scenes import BoxSet
from convgate.errors import DataError, InputError, RecipeError
from convgate.gated.options import NotNegative, Positive, Share, Size
from convgate.reading.modes import evaluating
from convgate.tasks.augment import augment_boxes
from convgate.tasks.registry import register_task
from convgate.tasks.task import Judge, Task

__all__ = ["Detection"]


@register_task("detection")
@dataclass(frozen=True)
class Detection(Task):
    """Boxes with classes and scores.

    Args:
        crop: side of the squares that training images are cropped to; null: not cropped, and a detector pads the images
            of a batch to one size.
        scale: images are scaled by a random factor from this range before.
        flip: mirror left and right with probability one half.
        colour: how far brightness, contrast and saturation are changed at random; 0 for not at all.
        visible: a box that less than this share of is left of in the crop is not learned from.
        evaluated: how many images are evaluated at once. With 1 none is padded for another, so each costs what its own
            size costs.
        taught: the sub-module whose output is compared with the teacher's.

    """

    metric: ClassVar[str] = "AP50"
    takes: ClassVar[type] = BoxSet

    crop: Size | None = None
    scale: tuple[Positive, ...] = (1.0, 1.0)
    flip: bool = True
    colour: NotNegative = 0.0
    visible: Share = 0.5
    evaluated: Size = 1
    taught: str = "head"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.scale) != 2 or self.scale[0] > self.scale[1]:
            raise InputError(f"Detection(scale={self.scale}): give the least and the largest factor")

    def augmented(self, images: BoxSet, batch: tuple[Any, Any], generator: torch.Generator) -> tuple[Any, Any]:
        found, targets = augment_boxes(
            *batch,
            generator,
            crop=self.crop,
            scale=(self.scale[0], self.scale[1]),
            flip=self.flip,
            colour=self.colour,
            visible=self.visible,
        )
        return self.prepared(images, found), targets

    def prepared(self, images: BoxSet, batch: list[Tensor]) -> list[Tensor]:
        """Images with values in [0, 1]: detectors normalise them themselves."""
        return [image.float() / 255 for image in batch]

    def evaluation_batch(self, images: BoxSet, trained_with: int = 0) -> int:
        return self.evaluated

    def example(self, images: BoxSet, n: int = 1) -> list[Tensor]:
        return self.prepared(images, images.batch([0])[0])

    def check(self, model: nn.Module, images: BoxSet, field: str) -> None:
        _backend()  # missed now, and not when training has ended
        with torch.no_grad(), evaluating(model):
            found = model(self.example(images))
        if not isinstance(found, list) or not all(isinstance(f, Mapping) and f.keys() >= _KEYS for f in found):
            raise RecipeError(
                f"the {field} returns {type(found).__name__} for a list of images; a detector returns a list of "
                "mappings with boxes, scores and labels, as torchvision's do"
            )
        labels = torch.cat([f["labels"] for f in found])
        if len(labels) and int(labels.max()) > len(images.classes):
            raise RecipeError(
                f"the {field} finds objects of class {int(labels.max())}, and the data set has {len(images.classes)}, "
                f"numbered from 1; set {field}.options.num_classes to {len(images.classes) + 1}, background included"
            )

    def arguments(self, x: Any, targets: Any) -> tuple[Any, ...]:
        return x, targets

    def losses(self, output: Any, targets: Any, smoothing: float) -> Mapping[str, Tensor]:
        return {name: term.float() for name, term in output.items()}

    def regions(self, x: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
        height, width = (max(image.shape[axis] for image in x) for axis in (1, 2))
        found = torch.zeros(len(x), 1, height, width, device=x[0].device)
        for one, target in zip(found[:, 0], targets, strict=True):
            corners = torch.cat([target["boxes"][:, :2].floor(), target["boxes"][:, 2:].ceil()], 1).int().tolist()
            for x1, y1, x2, y2 in corners:
                one[y1:y2, x1:x2] = 1
        return found

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[Callable[[Any], Any]]:
        """What the sub-module `taught` returned last, by a hook that is there for the block.

        Raises `RecipeError` for a detector that has no such part.
        """
        try:
            part = network.get_submodule(self.taught)
        except AttributeError:
            parts = ", ".join(name for name, _ in network.named_children())
            raise RecipeError(f"task_options.taught is {self.taught!r}; {type(network).__name__} has {parts}") from None
        last: list[Any] = []

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            last[:] = [output]

        hook = part.register_forward_hook(keep)
        try:
            yield lambda _: last.pop()
        finally:
            hook.remove()

    def divergence(self, answer: Any, teacher: Any, temperature: float) -> Tensor:
        """The mean squared difference of the maps, each over the teacher's variance, whatever the temperature.

        Of a teacher that has learned nothing the maps hardly vary, so a variance counts as `_LEAST` at least.
        """
        ours, theirs = (
            [leaf for leaf in pytree.tree_leaves(maps) if isinstance(leaf, Tensor)] for maps in (answer, teacher)
        )
        if [leaf.shape for leaf in ours] != [leaf.shape for leaf in theirs]:
            raise InputError(
                f"the teacher's '{self.taught}' returns {[list(t.shape) for t in theirs]}, that of the network in "
                f"training {[list(t.shape) for t in ours]}; give a teacher of the same form"
            )
        return torch.stack(
            [
                F.mse_loss(a.float(), b.float()) / b.float().var().clamp(min=_LEAST)
                for a, b in zip(ours, theirs, strict=True)
            ]
        ).mean()

    def draw(self, picture: Any, answer: Any, classes: tuple[str, ...]) -> Any:
        """Boxes with a score of at least one half, with their classes and scores."""
        from PIL import ImageDraw

        pen = ImageDraw.Draw(picture)
        for one in self.told(answer, classes)["boxes"]:
            x1, y1, x2, y2 = one["box"]
            pen.rectangle((x1, y1, x2, y2), outline=_COLOUR, width=2)
            pen.text((x1, max(0, y1 - 12)), f"{one['class']} {one['score']:.0%}", fill=_COLOUR)
        return picture

    def told(self, answer: Any, classes: tuple[str, ...]) -> Mapping[str, Any]:
        """The boxes with a score of at least one half: class, score, and x1, y1, x2, y2 in pixels."""
        found = answer[0]
        rows = zip(found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True)
        return {
            "boxes": [
                {"class": classes[label - 1] if 0 < label <= len(classes) else str(label), "score": score, "box": box}
                for box, label, score in rows
                if score >= _SHOWN
            ]
        }

    def judge(self, classes: tuple[str, ...]) -> Judge:
        return _AveragePrecision(classes)


_KEYS = {"boxes", "scores", "labels"}
_SHOWN, _COLOUR = 0.5, (230, 60, 20)
_LEAST = 0.01


def _backend() -> Any:
    """Which library counts, of the two that torchmetrics knows. Raises `ModuleNotFoundError` where there is none."""
    for module in ("faster_coco_eval", "pycocotools"):
        if find_spec(module):
            return module
    raise ModuleNotFoundError("average precision needs faster-coco-eval or pycocotools", name="faster_coco_eval")


class _AveragePrecision(Judge):
    """COCO's: over ten IoU thresholds, by torchmetrics on faster-coco-eval or pycocotools."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        from torchmetrics.detection import MeanAveragePrecision

        self.classes = classes
        self.metric = MeanAveragePrecision(class_metrics=True, backend=_backend())
        self.metric.warn_on_many_detections = False

    def add(self, output: list[Mapping[str, Tensor]], targets: list[dict[str, Tensor]]) -> None:
        found = [{key: value.cpu() for key, value in one.items() if key in _KEYS} for one in output]
        self.metric.update(found, targets)

    def scores(self) -> Mapping[str, float]:
        """AP50, AP over IoU 0.50 to 0.95, AP75; AP of each class that has a box."""
        counts = self.metric.compute()
        if float(counts["map"]) < 0:
            raise DataError("none of the images has a box, so there is no precision; judge on images with objects")
        by_class = dict(
            zip(counts["classes"].view(-1).tolist(), counts["map_per_class"].view(-1).tolist(), strict=True)
        )
        named = {
            f"AP of {self.classes[k - 1]}": ap for k, ap in by_class.items() if ap >= 0 and 0 < k <= len(self.classes)
        }
        return {"AP50": float(counts["map_50"]), "AP": float(counts["map"]), "AP75": float(counts["map_75"]), **named}
