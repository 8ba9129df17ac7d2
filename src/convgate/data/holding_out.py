"""Holding out some of what a network learns from, to choose by."""

from typing import TypeVar

import numpy as np

from convgate.data.images import ImageSet, random_order
from convgate.data.scenes import Scenes
from convgate.errors import InputError

__all__ = ["hold_out", "hold_out_scenes", "split_off"]

AnyScenes = TypeVar("AnyScenes", bound=Scenes)


def split_off(images: ImageSet, n: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """Split at random into `(rest, held_out)` with `n` images held out; 1 <= n < len(images)."""
    if not 1 <= n < len(images):
        raise InputError(
            f"n is {n}, of {len(images)} images: it must lie in [1, {len(images) - 1}], for neither part may be empty."
        )
    order = random_order(len(images), seed)
    return images.subset(order[n:]), images.subset(order[:n])


def hold_out(images: ImageSet, validation: int | None, most: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """Split at random into `(rest, validation images)`; both are `images` itself where none are held out.

    Args:
        images: all training images.
        validation: how many are held out, 0 for none; None for a tenth of them, `most` at most.
        most: see `validation`.
        seed: seed of the choice.

    Raises:
        InputError: nothing would be left to learn from.

    """
    if validation == 0:
        return images, images
    n = max(1, min(most, len(images) // 10)) if validation is None else validation
    _check(n, len(images))
    return split_off(images, n, seed)


def hold_out_scenes(scenes: AnyScenes, validation: int, seed: int) -> tuple[AnyScenes, AnyScenes]:
    """Split at random into `(rest, held_out)`; both are `scenes` itself where nothing is held out.

    Raises `InputError` unless something is left to learn from.
    """
    if validation == 0:
        return scenes, scenes
    _check(validation, len(scenes))
    order = np.random.default_rng(seed).permutation(len(scenes)).tolist()
    rest, held_out = scenes.subset(order[validation:]), scenes.subset(order[:validation])
    assert isinstance(rest, type(scenes))
    assert isinstance(held_out, type(scenes))
    return rest, held_out


def _check(n: int, images: int) -> None:
    if not 1 <= n < images:
        raise InputError(
            f"the option validation is {n}, and there are {images} training images: give a number in "
            f"[0, {images - 1}] (data.options.validation in a recipe), for something must be left to learn from."
        )
