"""Where, and in batches of how many images, a network is evaluated. Needs no Lightning, whose import takes seconds."""

import torch

from convgate.data import ImageSet
from convgate.recipes.recipe import Hardware

__all__ = ["evaluation_batch", "evaluation_device"]


def evaluation_batch(images: ImageSet, trained_with: int = 0) -> int:
    """How many images to evaluate at once: at least what was trained with, 256 unless they are large.

    Without gradients, 256 images of 64 pixels take no more memory than a training step; and a method that decides for
    every value of every feature keeps masks as large as all features.
    """
    height, width = images.images.shape[2:] if images.view is None else (images.view, images.view)
    return max(trained_with, min(256, max(1, 2**20 // (height * width))))


def evaluation_device(hardware: Hardware) -> torch.device:
    """Where a trained network is evaluated: on the graphics processor if training used one."""
    on_gpu = hardware.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")
