"""Spatial gates that are told where objects are, in the first part of gated training."""

import torch
import torch.nn.functional as F
from torch import Tensor

from convgate.errors import RecipeError
from convgate.gating import Decisions, Progress, Tiles, ramp
from convgate.recipes.recipe import Supervision

__all__ = ["fit_to", "supervision", "weight_at"]

_PADDED = 64
# A batch is padded by fewer pixels than this; where it is larger by more, its images were resized.


def supervision(decisions: Decisions, regions: Tensor) -> Tensor:
    """How far spatial gates are from being open where `regions` [N, 1, H, W] is 1 and closed elsewhere, a scalar.

    The cross-entropy of each gate's logits, tiles with and without objects weighing one half each, however few of them
    there are; a tile that an object reaches into is one with objects. The mean over the gates; 0 without spatial gates.
    """
    terms: list[Tensor] = []
    for decision in decisions.of_kind(Tiles).values():
        if decision.logits is None:
            continue
        logits = decision.logits.float()
        there = F.adaptive_max_pool2d(regions.float(), logits.shape[2:]) > 0
        inside = (F.softplus(-logits) * there).sum() / there.sum().clamp(min=1)
        outside = (F.softplus(logits) * ~there).sum() / (~there).sum().clamp(min=1)
        terms.append((inside + outside) / 2)
    return torch.stack(terms).mean() if terms else regions.new_zeros(())


def fit_to(regions: Tensor, size: tuple[int, int]) -> Tensor:
    """Regions [N, 1, H, W] of a batch's images, padded with zeros as a detector pads the images, to [N, 1, *size].

    Raises `RecipeError` for a detector that resizes its images: where objects are in them is not known.
    """
    below, right = size[0] - regions.shape[2], size[1] - regions.shape[3]
    if not (0 <= below < _PADDED and 0 <= right < _PADDED):
        raise RecipeError(
            f"supervision: the model makes a batch of {list(size)} pixels of images of {list(regions.shape[2:])}; "
            "boxes supervise gates of detectors that keep their images' size. Set supervision.weight to 0"
        )
    return F.pad(regions, (0, right, 0, below))


def weight_at(told: Supervision, progress: Progress) -> Progress:
    """The weight of the term when the share `progress` of the stage is done."""
    return told.weight * (1 - ramp(progress, 0.0, told.until))
