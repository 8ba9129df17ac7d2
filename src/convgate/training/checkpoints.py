"""The checkpoint of a stage that is under way: written whole or not at all, and checked before it is continued from."""

from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from convgate.errors import CheckpointError
from convgate.files import replacing

__all__ = ["NAME", "WholeFiles", "begun"]

NAME = "last"
"""Of the file, without its ending."""


class WholeFiles(TorchCheckpointIO):
    """Lightning's files, each replaced by a complete one.

    Lightning's own way writes to the system's folder for temporary files and moves that over the one before: where it
    is on another disk the move is a copy, and what ends half-way through it leaves neither.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it; raises `OSError` where that fails, and the file before it stays."""
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


def begun(folder: Path) -> Path | None:
    """The checkpoint in a stage's folder, if there is one. Raises `CheckpointError` for one that is damaged."""
    path = folder / f"{NAME}.ckpt"
    if not path.is_file():
        return None
    if not is_zipfile(path):
        raise CheckpointError(f"{path} is damaged: it is not complete; delete it, and this stage begins anew")
    return path
