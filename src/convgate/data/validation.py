"""Holding out some of the training scenes to choose by."""

from typing import TypeVar

import numpy as np

from convgate.data.scenes import Scenes
from convgate.errors import InputError

__all__ = ["held_out"]

AnyScenes = TypeVar("AnyScenes", bound=Scenes)


def held_out(scenes: AnyScenes, validation: int, seed: int) -> tuple[AnyScenes, AnyScenes]:
    """Split at random into (rest, held out); both are `scenes` itself where nothing is held out.

    Raises `InputError` unless something is left to learn from.
    """
    if validation == 0:
        return scenes, scenes
    if not 1 <= validation < len(scenes):
        raise InputError(
            f"the option validation is {validation}, and there are {len(scenes)} training images: give a number in "
            f"[0, {len(scenes) - 1}] (data.options.validation in a recipe), for something must be left to learn from."
        )
    order = np.random.default_rng(seed).permutation(len(scenes)).tolist()
    rest, held = scenes.subset(order[validation:]), scenes.subset(order[:validation])
    assert isinstance(rest, type(scenes))
    assert isinstance(held, type(scenes))
    return rest, held
