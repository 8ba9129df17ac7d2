"""Image files and arrays of pixels as uint8 [H, W, C], at a size."""

import warnings
from os import PathLike, fspath
from typing import Any

import numpy as np

from convgate.errors import DataError, InputError, MissingDependencyError
from convgate.preparation.resampling import resize as resize_in_numpy

__all__ = ["pixels_of", "resized"]

_MODES = {1: "L", 3: "RGB"}
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# Pillow's conversion of these to 8 bits cuts values off instead of scaling them.


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
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "reading image files needs the package 'pillow', which is not installed; install it with: "
            "pip install 'convgate[images]', or give pixels: uint8 [H, W, 3]"
        ) from error
    if isinstance(source, Image.Image):
        return _converted(source, channels, "the image")
    name = fspath(source) if isinstance(source, str | PathLike) else type(source).__name__
    if not isinstance(source, str | PathLike):
        raise InputError(f"an image is a {name}; give a path, a Pillow image, or pixels: uint8 [H, W, 3]")
    try:
        with Image.open(source) as image:
            return _converted(image, channels, str(name))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {name}") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from error


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


def _converted(image: Any, channels: int, name: str) -> np.ndarray:
    if image.mode in _DEEP:
        raise DataError(f"{name} has more than 8 bits per channel (Pillow's mode {image.mode}); convert it to 8 bits")
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
