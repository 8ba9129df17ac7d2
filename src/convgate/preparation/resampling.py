"""Resizing of 8-bit images as Pillow does it, bit for bit, for where Pillow is not installed.

Two passes, along rows and then along columns; each output pixel is a weighted mean of input pixels, whose weights are
fixed-point numbers of 22 bits. When an image is reduced, the filter grows with the factor (antialiasing).
"""

import math
from collections.abc import Callable

import numpy as np

__all__ = ["FILTERS", "resize", "scaled_size"]

_BITS = 22


def _linear(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray) -> np.ndarray:
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float] | None] = {
    "nearest": None,
    "bilinear": (_linear, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
"""Interpolation -> its kernel and how far that reaches at full size; None takes the nearest pixel."""


def resize(pixels: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """An image, uint8 [H, W, C], as uint8 [height, width, C].

    >>> resize(np.arange(4, dtype=np.uint8).reshape(1, 4, 1), 1, 2, "bilinear").ravel()
    array([1, 2], dtype=uint8)
    """
    kernel = FILTERS[interpolation]
    if kernel is None:
        return pixels[_nearest(len(pixels), height)][:, _nearest(pixels.shape[1], width)]
    across = _pass(pixels.swapaxes(0, 1), width, *kernel).swapaxes(0, 1)
    return np.ascontiguousarray(_pass(across, height, *kernel))


def _nearest(size: int, wanted: int) -> np.ndarray:
    # Step by step, as Pillow adds it up, so that it rounds as Pillow does.
    step = size / wanted
    return np.cumsum([step * 0.5] + [step] * (wanted - 1)).astype(np.int64)


def _pass(pixels: np.ndarray, wanted: int, kernel: Callable[[np.ndarray], np.ndarray], support: float) -> np.ndarray:
    """Resize along the first axis."""
    size = len(pixels)
    if size == wanted:
        return pixels
    scale = size / wanted
    stretch = max(scale, 1.0)
    reach = support * stretch
    result = np.empty((wanted, *pixels.shape[1:]), np.uint8)
    for place in range(wanted):
        centre = (place + 0.5) * scale
        first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        weights = kernel((np.arange(first, last) - centre + 0.5) / stretch)
        fixed = np.trunc(weights / weights.sum() * 2**_BITS + np.copysign(0.5, weights)).astype(np.int64)
        total = np.tensordot(fixed, pixels[first:last].astype(np.int64), 1) + 2 ** (_BITS - 1)
        result[place] = np.clip(total >> _BITS, 0, 255)
    return result


def scaled_size(height: int, width: int, shorter: int) -> tuple[int, int]:
    """(height, width) of an image whose shorter side is scaled to `shorter`; the longer one is rounded down.

    >>> scaled_size(480, 640, 256)
    (256, 341)
    """
    if height <= width:
        return shorter, math.floor(shorter * width / height)
    return math.floor(shorter * height / width), shorter
