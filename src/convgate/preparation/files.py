"""Which files of a folder are images: by their suffix."""

from os import PathLike
from pathlib import Path

from convgate.errors import DataError

__all__ = ["images_in"]

_SUFFIXES = (".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def images_in(folder: str | PathLike[str]) -> list[Path]:
    """All image files in a folder and below, in alphabetical order; hidden files and folders are left out.

    Raises `DataError` for a folder that is not there or holds no image.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "is not there"
        raise DataError(f"{folder} {what}: give a folder of images")
    below = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    below = [path for path in below if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not below:
        raise DataError(f"{folder} holds no images ({', '.join(_SUFFIXES)}), and no folder in it does")
    return below
