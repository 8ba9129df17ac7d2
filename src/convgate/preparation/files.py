"""Which files of a folder are images: by their suffix."""

import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from convgate.errors import DataError

__all__ = ["images_in"]

_SUFFIXES = (".bmp", ".gif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def images_in(folder: str | PathLike[str]) -> list[Path]:
    """All image files in a folder and below, in alphabetical order; hidden files and folders are left out.

    Links to folders are followed, but for those to a folder that they lie in.

    Raises `DataError` for a folder that is not there or holds no image.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "is not there"
        raise DataError(f"{folder} {what}: give a folder of images")
    below = sorted(path for path in _shown(folder) if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not below:
        raise DataError(f"{folder} holds no images ({', '.join(_SUFFIXES)}), and no folder in it does")
    return below


def _shown(folder: Path) -> Iterator[Path]:
    """What is in a folder and below, but for folders and what is hidden."""
    # The folders that each one lies in, by what they are and not by name, so that loops of links come to an end.
    around = {os.fspath(folder): frozenset({_identity(folder)})}
    for here, folders, files in os.walk(folder, followlinks=True):
        outer = around.pop(here)
        inner = {name: _identity(os.path.join(here, name)) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, identity in inner.items() if identity not in outer]
        around |= {os.path.join(here, name): outer | {inner[name]} for name in folders}
        yield from (Path(here, name) for name in files if not name.startswith("."))


def _identity(folder: str | PathLike[str]) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
