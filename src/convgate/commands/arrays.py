"""Images for commands that take them ready, as a .npy file."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["images_of"]

_HOW = "write images with numpy.save, float32 [N, C, H, W], as the network takes them"


def images_of(path: Path, count: int) -> "np.ndarray":
    """The first `count` images of a .npy file, of whatever type they are; they are read when they are looked at.

    Raises `InputError` where there is no such file, and for a file that does not hold a single array [N, C, H, W].
    """
    import numpy as np

    from convgate.errors import InputError

    if path.is_dir():
        raise InputError(f"{path} is a folder; give a .npy file: {_HOW}")
    if zipfile.is_zipfile(path):
        raise InputError(f"{path} is an archive of arrays (.npz); save one of them as a .npy file: {_HOW}")
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; {_HOW}") from error
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is not a .npy file of numbers; {_HOW}") from error
    if found.ndim != 4:
        raise InputError(f"{path} holds an array of shape {list(found.shape)}; {_HOW}")
    return found[:count]
