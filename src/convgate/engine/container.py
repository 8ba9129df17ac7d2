"""Safetensors files of NumPy arrays and texts, read with every kind of damage told as one error."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from convgate.errors import CheckpointError

__all__ = ["read_container"]


def read_container(path: Path, remedy: str, otherwise: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The texts and the arrays of a file.

    Args:
        path: of the file.
        remedy: what to do where there is none.
        otherwise: what the file is if it is not damaged, e.g. "not a trace".

    Raises:
        CheckpointError: there is no such file, or it cannot be read.

    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not there, or is not a file; {remedy}")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        # AttributeError: elements of a type that NumPy has not, such as those of 8 bits.
        raise CheckpointError(f"{path} is damaged, or {otherwise}: {error}") from None
