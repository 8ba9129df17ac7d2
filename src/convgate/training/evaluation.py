"""Where a network is evaluated. Needs no Lightning, whose import takes seconds."""

import torch

from convgate.recipes.recipe import Hardware

__all__ = ["evaluation_device"]


def evaluation_device(hardware: Hardware) -> torch.device:
    """Where a trained network is evaluated: on the graphics processor if training used one."""
    on_gpu = hardware.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")
