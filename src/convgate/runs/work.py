"""Pictures of where a run's network spends its work, on images of its test set or of the caller's."""

from collections.abc import Sequence
from pathlib import Path

import torch

from convgate.analysis.work import beside, work_on
from convgate.errors import InputError
from convgate.files import replacing
from convgate.runs.run import Run
from convgate.training.parts import build_task
from convgate.training.undisturbed import undisturbed

__all__ = ["draw_work"]


def draw_work(run: Run, numbers: Sequence[int], path: str | Path) -> list[float]:
    """Write a PNG with a row for each test image: the image with the answers, and the map of its MACs beside it.

    Args:
        run: one whose network is there.
        numbers: which images, from 0.
        path: the file.

    Returns:
        The share of the dense MACs that each image cost.

    Raises:
        InputError: there is no image of that number.
        CheckpointError: the run's network is missing.

    """
    from PIL import Image

    task, splits, network = build_task(run.recipe), run.splits(), run.network()
    images = splits.validation if run.recipe.measured == "validation" else splits.test
    wrong = [number for number in numbers if not 0 <= number < len(images)]
    if wrong or not numbers:
        raise InputError(f"image {wrong[0] if wrong else 'none'}: give numbers from 0 to {len(images) - 1}")
    rows, shares = [], []
    with undisturbed(run.recipe.hardware.threads):
        for number in numbers:
            batch, _ = images.batch(torch.tensor([number]))
            image = batch[0] if len(batch[0]) == 3 else batch[0][:1].expand(3, -1, -1)
            size = (int(image.shape[1]), int(image.shape[2]))
            answer, spent, share = work_on(network, task.prepared(images, batch), size)
            picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
            rows.append(beside(task.draw(picture, answer, images.classes), image, spent))
            shares.append(share)
    whole = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    with replacing(Path(path)) as temporary:
        whole.save(temporary, "PNG")
    return shares
