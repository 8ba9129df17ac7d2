"""Image files as Pillow images of 8 bits per channel: one place that opens them, and says why one cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from os import PathLike
from typing import Any

from convgate.errors import DataError, MissingDependencyError

__all__ = ["check_depth", "opened"]

_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# Pillow's conversion of these to 8 bits cuts values off instead of scaling them.


@contextmanager
def opened(source: str | PathLike[str] | bytes, name: str) -> Iterator[Any]:
    """Yield an image file, or its content, as a Pillow image. Its pixels are decoded when they are first asked for.

    What decoding raises in the body is told as a `DataError`, too.

    Args:
        source: the file's path, or its content.
        name: what messages call it.

    Raises:
        DataError: not an image, a damaged or far too large one, or one of more than 8 bits per channel.
        MissingDependencyError: Pillow is not installed.

    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "reading image files needs the package 'pillow', which is not installed; install it with: "
            "pip install 'convgate[images]', or give pixels: uint8 [H, W, 3]"
        ) from error
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            check_depth(image, name)
            yield image
    except FileNotFoundError as error:
        raise DataError(f"there is no file {name}") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from error


def check_depth(image: Any, name: str) -> None:
    """Raise `DataError` for a Pillow image of more than 8 bits per channel."""
    if image.mode in _DEEP:
        raise DataError(f"{name} has more than 8 bits per channel (Pillow's mode {image.mode}); convert it to 8 bits")
