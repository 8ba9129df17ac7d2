"""Image files and arrays of pixels as uint8 [H, W, C], at a size."""

import warnings
from os import PathLike, fspath
from typing import Any

import numpy as np

from convgate.errors import DataError, InputError
from convgate.preparation.opening import check_depth, opened
from convgate.preparation.resampling import resize as resize_in_numpy

__all__ = ["pixels_of", "resized"]

_MODES = {1: "L", 3: "RGB"}


def pixels_of(source: Any, channels: int) -> np.ndarray:
    """The pixels of a file (its path), of a Pillow image or of an array, uint8 [H, W, channels], 1 (grey) or 3 (RGB).

    Files are read with Pillow. Grey images become coloured ones and the other way round; transparency is dropped, as
    `image.convert("RGB")` does. A camera's rotation mark (EXIF) is not applied, since torchvision and timm do not
    apply it.

    Raises:
        DataError: not an image, or one of more than 8 bits per channel.
        MissingDependencyError: a file, and Pillow is not installed.

    """
    if isinstance(source, np.ndarray):
        return _checked(source, channels)
    if isinstance(source, str | PathLike):
        with opened(source, fspath(source)) as image:
            return _converted(image, channels)
    if not _is_picture(source):
        raise InputError(
            f"an image is a {type(source).__name__}; give a path, a Pillow image, or pixels: uint8 [H, W, 3]"
        )
    check_depth(source, "the image")
    return _converted(source, channels)


def resized(pixels: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """Pixels, uint8 [H, W, C], at another size; with Pillow where it is installed, else the same bits in NumPy."""
    if pixels.shape[:2] == (height, width):
        return pixels
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return resize_in_numpy(pixels, height, width, interpolation)
    filter_ = Image.Resampling[interpolation.upper()]
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(image.resize((width, height), filter_)).reshape(height, width, -1)


def _is_picture(source: Any) -> bool:
    """Whether it is a Pillow image; where Pillow is not installed, nothing is."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return False
    return isinstance(source, Image.Image)


def _converted(image: Any, channels: int) -> np.ndarray:
    with warnings.catch_warnings():
        # A palette's transparency, which is dropped like any other.
        warnings.filterwarnings("ignore", message="Palette images with Transparency", category=UserWarning)
        pixels = np.asarray(image.convert(_MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def _checked(pixels: np.ndarray, channels: int) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape or pixels.shape[2] not in (1, channels):
        raise DataError(
            f"an image is {pixels.dtype} of shape {list(pixels.shape)}; pixels are uint8 of shape [H, W, {channels}]"
        )
    return pixels if pixels.shape[2] == channels else np.repeat(pixels, channels, 2)
