"""Normalisation of a whole batch at once, on the device that holds it."""

import torch
from torch import Tensor

from convgate.augmentation import check_bytes
from convgate.errors import InputError

__all__ = ["normalise"]


def normalise(
    images: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """`(images / 255 - mean) / std` per channel: uint8 [N, C, H, W] to `dtype`, floating point, of the same shape."""
    check_bytes(images)
    if len(mean) != images.shape[1] or len(std) != images.shape[1]:
        raise InputError(f"mean is {mean} and std {std}: give one number for each of {images.shape[1]} channels.")
    if not dtype.is_floating_point:
        raise InputError(f"dtype is {dtype}: give a floating point type, such as torch.float32.")
    centre, scale = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (mean, std))
    if not (scale > 0).all():
        raise InputError(f"std is {std}: every value must be above zero.")
    # Computed in float32 and rounded once: half types cannot hold 1 / 255 well.
    factor = (1 / (255 * scale)).to(images.device, torch.float32)
    shift = (-centre / scale).to(images.device, torch.float32)
    values = images.to(torch.float32, memory_format=memory_format)
    return torch.addcmul(shift, values, factor).to(dtype)
