"""Small grey shapes, and placing one on each canvas of a batch: what the synthetic images are drawn with."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["bars", "fragments", "glyphs", "place", "spots"]

SIDE = 32
"""Height and width of every sprite, in pixels."""


def glyphs(scans: np.ndarray) -> Tensor:
    """Grey scans [M, 8, 8] of values 0..16 as smooth masks [M, 1, SIDE, SIDE] in [0, 1]."""
    grey = torch.from_numpy(scans.astype(np.float32) / 16)[:, None]
    large = F.interpolate(grey, size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    # Enlarged eight-fold pixels are a blur; a steep ramp about mid-grey gives the pen stroke its edge back.
    return _ramp(large, 0.15, 0.65)


def fragments(masks: Tensor, rng: np.random.Generator) -> Tensor:
    """One corner of each mask, cut by two lines at right angles: a piece of pen stroke that is not a digit.

    A corner and not a half, for the upper half of a 9 is a 0.
    """
    angle = _uniform(rng, 0, 2 * np.pi, len(masks))
    x, y = _turned(angle)
    return masks * _ramp(x, -0.15, 0.05) * _ramp(y, -0.15, 0.05)


def bars(n: int, rng: np.random.Generator) -> Tensor:
    """Pen strokes without meaning: arcs from nearly straight to a third of a circle."""
    bend = _uniform(rng, -0.8, 0.8, n)
    x, y = _turned(torch.zeros_like(bend))
    distance = (y - bend * (x.square() - 0.4)).abs() / (1 + (2 * bend * x).square()).sqrt()
    return (1 - _ramp(distance, 0.08, 0.22)) * (1 - _ramp(x.abs(), 0.75, 0.95))


def spots(n: int, rng: np.random.Generator) -> Tensor:
    """Round blobs, from hard-edged to soft."""
    softness = _uniform(rng, 0.1, 0.8, n)
    x, y = _turned(torch.zeros_like(softness))
    return 1 - _ramp((x.square() + y.square()).sqrt(), 0.9 - softness, 0.9)


def place(sprites: Tensor, width: Tensor, height: Tensor, centre: Tensor, angle: Tensor, size: int) -> Tensor:
    """One canvas for each sprite.

    Args:
        sprites: float32 [n, 1, SIDE, SIDE], masks in [0, 1].
        width: [n], as a fraction of the canvas side, before turning; `height` in the same way.
        height: [n].
        centre: [n, 2], x and y from -1 to 1 across the canvas.
        angle: [n], radians.
        size: height and width of the canvas in pixels.

    Returns:
        float32 [n, 1, size, size], zero outside the sprite.

    """
    cos, sin = angle.cos(), angle.sin()
    # grid_sample asks, for each canvas point, where in the sprite it comes from: the inverse of the placing.
    inverse = torch.stack(
        [torch.stack([cos, sin], -1) / width[:, None], torch.stack([-sin, cos], -1) / height[:, None]], 1
    )
    theta = torch.cat([inverse, -inverse @ centre[:, :, None]], 2)
    grid = F.affine_grid(theta, [len(sprites), 1, size, size], align_corners=False)
    return F.grid_sample(sprites, grid, align_corners=False)


def _uniform(rng: np.random.Generator, low: float, high: float, n: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, n).astype(np.float32)).view(n, 1, 1, 1)


def _turned(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel coordinates from -1 to 1, turned by angle [n, 1, 1, 1]: x and y, each [n, 1, SIDE, SIDE]."""
    at = (torch.arange(SIDE, dtype=torch.float32) + 0.5) * 2 / SIDE - 1
    x, y = at.view(1, 1, 1, SIDE), at.view(1, 1, SIDE, 1)
    return angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x


def _ramp(x: Tensor, low: Tensor | float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, smooth between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
