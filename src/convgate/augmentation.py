"""Augmentation of a whole batch at once, on the device that holds it.

torch is imported where it is used: recipes hold an `Augmentation`, and are read without it.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from convgate.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Augmentation", "check_bytes"]

Padding = Literal["zeros", "reflect"]
Crop = Literal["shift", "resized"]


@dataclass(frozen=True)
class Augmentation:
    """A random crop and a random mirror flip, drawn for each image by itself.

    Attributes:
        crop: "shift": of the image's size, out of the padded image; "resized": a part of random area, and of a random
            shape between 3:4 and 4:3, resized to what the network sees.
        pad: pixels added on every side before the crop back to the old size; 0 for no crop.
        padding: what is added: black, or the image mirrored at its edge pixels (then `pad` < H and W).
        flip: mirror left and right with probability one half.
        scale: the least area of a resized crop, as a share of the image's; the greatest is all of it.

    """

    pad: int = 4
    padding: Padding = "zeros"
    flip: bool = True
    crop: Crop = "shift"
    scale: float = 0.2

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise InputError(f"pad is {self.pad}: give 0 pixels or more.")
        if self.padding not in get_args(Padding):
            raise InputError(f"padding is {self.padding!r}: choose from {', '.join(map(repr, get_args(Padding)))}.")
        if self.crop not in get_args(Crop):
            raise InputError(f"crop is {self.crop!r}: choose from {', '.join(map(repr, get_args(Crop)))}.")
        if not 0 < self.scale <= 1:
            raise InputError(f"scale is {self.scale}: give a share of the image's area, in (0, 1].")

    def __call__(self, images: "Tensor", generator: "torch.Generator", view: int | None = None) -> "Tensor":
        """Augment uint8 [N, C, H, W] to the same, channels last in memory; to [N, C, view, view] if that is given.

        The draws are made on the generator's device: a CPU generator gives the same result wherever the images are.
        """
        import torch
        import torch.nn.functional as F

        check_bytes(images)
        if self.crop == "resized":
            return self._resize(images, generator, view or images.shape[2], view or images.shape[3])
        if view is not None and images.shape[2:] != (view, view):
            raise InputError(
                f"images are {tuple(images.shape[2:])} and the network sees {view}x{view}: shifts keep the size; use "
                "crop='resized'."
            )
        n, _, height, width = images.shape
        if self.padding == "reflect" and self.pad >= min(height, width):
            raise InputError(
                f"pad is {self.pad} and images are {height}x{width}: reflection can add {min(height, width) - 1} "
                "pixels at most. Lower pad, or use padding='zeros'."
            )
        offsets, flips = self._draw(n, generator)
        offsets, flips = offsets.to(images.device), flips.to(images.device)
        across = torch.arange(width, device=images.device)
        rows = torch.arange(height, device=images.device) + offsets[0]
        cols = torch.where(flips, across.flip(0), across) + offsets[1]
        # Pixel by pixel, channels last: one index per pixel and not per value, and F.pad makes the copy it needs.
        pixels = images.permute(0, 2, 3, 1)
        if self.padding == "zeros":
            pixels = F.pad(pixels, (0, 0) + (self.pad,) * 4)
        else:
            rows, cols = _mirror(rows - self.pad, height), _mirror(cols - self.pad, width)
        old_height, old_width, channels = pixels.shape[1:]
        first = torch.arange(n, device=images.device)[:, None] * old_height
        index = (first + rows)[:, :, None] * old_width + cols[:, None, :]
        chosen = pixels.reshape(-1, channels).index_select(0, index.flatten())
        return chosen.view(n, height, width, channels).permute(0, 3, 1, 2)

    def _resize(self, images: "Tensor", generator: "torch.Generator", height: int, width: int) -> "Tensor":
        """Cut a part out of each image and resize it, bilinearly."""
        import torch
        import torch.nn.functional as F

        n, device = len(images), generator.device
        area, shape, down, across = torch.rand(4, n, generator=generator, device=device)
        mirrored = (torch.randint(0, 2, (n,), generator=generator, device=device) > 0) & self.flip
        area = self.scale + (1 - self.scale) * area
        ratio = torch.exp((2 * shape - 1) * math.log(4 / 3))
        # In the sampler's coordinates an image reaches from -1 to 1: half sides, and where the middle may lie.
        tall, wide = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
        y, x = (2 * down - 1) * (1 - tall), (2 * across - 1) * (1 - wide)
        zero = torch.zeros_like(x)
        rows = (torch.where(mirrored, -wide, wide), zero, x), (zero, tall, y)
        theta = torch.stack([torch.stack(row, 1) for row in rows], 1).to(images.device)
        grid = F.affine_grid(theta, [n, images.shape[1], height, width], align_corners=False)
        values = images.to(torch.float32, memory_format=torch.channels_last)
        parts = F.grid_sample(values, grid, padding_mode="border", align_corners=False)
        return parts.round().to(torch.uint8, memory_format=torch.channels_last)

    def _draw(self, n: int, generator: "torch.Generator") -> tuple["Tensor", "Tensor"]:
        """Row and column of each crop's corner, int64 [2, N, 1], and whether to flip it, bool [N, 1]."""
        import torch

        device = generator.device
        offsets = torch.randint(0, 2 * self.pad + 1, (2, n, 1), generator=generator, device=device)
        flips = torch.randint(0, 2, (n, 1), generator=generator, device=device).bool()
        return offsets, flips & self.flip


def _mirror(index: "Tensor", size: int) -> "Tensor":
    """Fold indices from (-size, 2 * size - 1) into [0, size), the edge pixel not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()


def check_bytes(images: "Tensor") -> None:
    """Raise `InputError` unless `images` are uint8 [N, C, H, W]."""
    import torch

    if images.dtype != torch.uint8 or images.ndim != 4:
        raise InputError(
            f"images are {images.dtype} of shape {tuple(images.shape)}: they must be torch.uint8 of shape [N, C, H, W]."
        )
