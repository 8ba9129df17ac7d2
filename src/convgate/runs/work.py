"""Pictures of where a run's network spends its work, on images of its test set or of the caller's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from convgate.analysis.scenes import picture_of
from convgate.data.scenes import read_scene_image
from convgate.errors import InputError, RecipeError
from convgate.files import replacing
from convgate.runs.run import Run
from convgate.training.parts import build_task
from convgate.undisturbed import undisturbed

__all__ = ["draw_predictions", "draw_work"]


def draw_work(run: Run, numbers: Sequence[int], path: str | Path) -> list[float]:
    """Write a picture with a row for each test image: the image with the answers, and the map of its MACs beside it.

    Args:
        run: one whose network is there.
        numbers: which images, from 0.
        path: the file: PNG, or JPEG by its suffix.

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
            row, _, share = picture_of(network, task, images, batch)
            rows.append(row)
            shares.append(share)
    whole = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    with replacing(Path(path)) as temporary:
        whole.save(temporary, "JPEG" if Path(path).suffix.lower() in (".jpg", ".jpeg") else "PNG", quality=90)
    return shares


def draw_predictions(run: Run, photographs: Sequence[Path], folder: str | Path) -> list[dict[str, Any]]:
    """Let a run's detector or segmenter answer for image files, one at a time, and draw each answer.

    FOLDER/NAME.png is the photograph with boxes or classes, and beside it the map of the MACs that it cost.

    Args:
        run: of images with boxes, or with a label for each pixel; its data set names the classes.
        photographs: image files of any sizes.
        folder: where the pictures go; made if need be.

    Returns:
        For each photograph "file", "picture", "share" (of the dense MACs) and what the task says of the answer.

    Raises:
        RecipeError: a run of images with a class each.
        InputError: two photographs of one name, or a picture would replace a photograph.
        DataError: a file that is not an image.
        CheckpointError: the run's network is missing.

    """
    task, folder = build_task(run.recipe), Path(folder)
    if task.whole_images:
        raise RecipeError(
            f"{run.folder.path} is a run of images with a class each; write its network as a .cgm file (convgate "
            "compile RUN -o net.cgm) and name that"
        )
    pictures = [folder / f"{path.stem}.png" for path in photographs]
    for number, picture in enumerate(pictures):
        if picture in pictures[:number]:
            raise InputError(f"two photographs are called {picture.stem}; predict them into folders of their own")
        if any(picture.resolve() == path.resolve() for path in photographs):
            raise InputError(f"--out {folder}: {picture.name} would replace a photograph; give another folder")
    network, images, found = run.network(), run.splits().test, []
    folder.mkdir(parents=True, exist_ok=True)
    with undisturbed(run.recipe.hardware.threads):
        for path, picture in zip(photographs, pictures, strict=True):
            row, answer, share = picture_of(network, task, images, [read_scene_image(path)])
            with replacing(picture) as temporary:
                row.save(temporary, "PNG")
            told = task.told(answer, images.classes)
            found.append({"file": str(path), "picture": str(picture), "share": share, **told})
    return found
