"""Where a network is trained and evaluated. Needs no Lightning, whose import takes seconds."""

import torch

from convgate.recipes.recipe import Hardware

__all__ = ["device_of"]


def device_of(hardware: Hardware) -> torch.device:
    """The graphics processor, if there is one and the recipe's accelerator is not another; else the processor."""
    on_gpu = hardware.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")
