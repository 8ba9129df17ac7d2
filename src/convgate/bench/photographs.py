"""Real photographs as inputs of a comparison: what gates decide, and so what they save, depends on the image."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.gated import GatedNetwork
from convgate.models import preparation_of, prepared_at
from convgate.preparation import Preparation
from convgate.preparation.files import images_in

__all__ = ["drawn", "photographs", "preparation_for"]

_IMAGES = 16
# Each engine is given all of them in turn; fewer would say little of the mean.


def preparation_for(network: GatedNetwork, model: str | None) -> Preparation:
    """How images are prepared: as the checkpoint says, or else as is usual for the model of that name.

    Raises `InputError` where neither is known.
    """
    known = network.preparation
    if known is None and model is not None:
        known = preparation_of(model)
    if known is None:
        raise InputError(
            "--images: nobody says how images are prepared for this network; set network.preparation (see "
            "convgate.preparation_of) and save it again"
        )
    _, _, height, width = network.plan.example
    return known if known.size == (height, width) or height != width else prepared_at(known, height)


def photographs(folders: Sequence[str], preparation: Preparation, batch: int, most: int = _IMAGES) -> list[Tensor]:
    """At most so many photographs drawn with torch's global seed, prepared: float32 [batch, C, H, W] each.

    Raises `DataError` for a folder without images and for a file that is not one.
    """
    return drawn([path for folder in folders for path in images_in(folder)], preparation, batch, most)


def drawn(paths: Sequence[Path], preparation: Preparation, batch: int, most: int = _IMAGES) -> list[Tensor]:
    """The same of these files."""
    wanted = batch * math.ceil(most / batch)
    order = torch.randperm(len(paths)).tolist()
    chosen = [paths[order[number % len(order)]] for number in range(min(wanted, max(len(paths), batch)))]
    chosen = chosen[: len(chosen) // batch * batch]
    return list(torch.from_numpy(preparation.read(chosen)).split(batch))
