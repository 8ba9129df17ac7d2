"""The report of a detector or segmenter: one HTML page of what was found and where the work was spent."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from convgate.analysis.judging import Judged
from convgate.analysis.metrics import Metrics
from convgate.analysis.shared import said_of_any
from convgate.analysis.stages import StageCurves
from convgate.analysis.work import beside, work_on
from convgate.errors import InputError, RecipeError
from convgate.files import write_text
from convgate.gated import GatedModel, GatedNetwork
from convgate.pages import page_template
from convgate.tasks.task import Task

__all__ = ["OnObjects", "on_objects", "picture_of", "write_scene_report"]

SHOWN = 8
COMPARED = 40
_WIDEST = 1100


@dataclass(frozen=True)
class OnObjects:
    """The share of the dense MACs per pixel that is spent inside of the true boxes, and outside; of so many images."""

    inside: float
    outside: float
    images: int


@dataclass(frozen=True)
class _Scene:
    number: int
    picture: str
    share: float


def write_scene_report(
    path: str | Path,
    *,
    title: str,
    metrics: Metrics,
    stages: Sequence[StageCurves],
    network: GatedNetwork | GatedModel,
    dense: Judged,
    gated: Judged,
    images: Any,
    task: Task,
    notes: Mapping[str, str],
    which: str = "test",
) -> None:
    """Write the page to `path`: complete, or not at all.

    Args:
        path: of the HTML file.
        title: heading of the page.
        metrics: the run's figures.
        stages: training curves, in the order of training.
        network: the gated network; it is run again on the images that are shown.
        dense: how the ungated network was judged on `images`.
        gated: how `network` was.
        images: the set that was judged, in that order.
        task: what the network does.
        notes: facts for the table at the end, in that order.
        which: what the images are called: test or held-out.

    Raises `InputError` for a judgement without spending, or of other images.
    """
    spending = gated.spending
    if spending is None or len(spending.macs) != len(images):
        raise InputError("write_scene_report(gated=..): give what judge() returned for a gated network and `images`")
    order = spending.shares.argsort(stable=True)
    chosen = order[torch.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().long()].tolist()
    scores = [
        (name, f"{dense.scores[name]:.1%}" if name in dense.scores else "", f"{value:.1%}")
        for name, value in gated.scores.items()
    ]
    context = said_of_any(title, metrics, stages, network, dense, gated, spending, notes) | {
        "which": which,
        "objects": on_objects(network, images, task),
        "scenes": [_scene(network, task, images, number) for number in chosen],
        "scores": scores,
    }
    write_text(path, page_template(Path(__file__).parent / "templates" / "scenes.html.j2").render(context))


def on_objects(network: GatedNetwork | GatedModel, images: Any, task: Task, limit: int = COMPARED) -> OnObjects | None:
    """What is spent on objects and on the background of the first images of a set; None for a task without boxes."""
    inside, outside, pixels, others = 0.0, 0.0, 0, 0
    number = min(limit, len(images))
    for index in range(number):
        batch, targets = images.batch([index])
        try:
            region = task.regions(batch, targets)[0, 0].bool()
        except RecipeError:
            return None
        _, spent, _ = work_on(network, task.prepared(images, batch), (batch[0].shape[1], batch[0].shape[2]))
        inside, outside = inside + float(spent[region].sum()), outside + float(spent[~region].sum())
        pixels, others = pixels + int(region.sum()), others + int((~region).sum())
    return OnObjects(inside / max(pixels, 1), outside / max(others, 1), number)


def picture_of(network: GatedNetwork | GatedModel, task: Task, images: Any, batch: Any) -> tuple[Any, Any, float]:
    """(a picture of a batch of one: the answer, and the map of its MACs beside it; the answer; its share of the MACs).

    Args:
        network: the gated network.
        task: what it does.
        images: the set, which says how images are prepared and names the classes.
        batch: uint8 [C, H, W], one image, in a list or a tensor.

    """
    from PIL import Image

    image = batch[0] if len(batch[0]) == 3 else batch[0][:1].expand(3, -1, -1)
    size = (int(image.shape[1]), int(image.shape[2]))
    answer, spent, share = work_on(network, task.prepared(images, batch), size)
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    return beside(task.draw(picture, answer, images.classes), image, spent), answer, share


def _scene(network: GatedNetwork | GatedModel, task: Task, images: Any, number: int) -> _Scene:
    picture, _, share = picture_of(network, task, images, images.batch([number])[0])
    picture.thumbnail((_WIDEST, _WIDEST))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    return _Scene(number, f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}", share)
