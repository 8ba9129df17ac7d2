"""Image files that are decoded when they are asked for; see `convgate.data.images.Images`."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convgate.preparation.opening import opened

__all__ = ["ImageFiles", "decode"]


class ImageFiles:
    """Colour images in files, as squares of one size: uint8 [N, 3, side, side].

    Indexing with integers [M] decodes those images one after the other: the shorter side is resized to `side`, and the
    square in the middle is taken. `Batches` reads ahead in several processes. Raises `DataError` for a file that is not
    an image.

    Args:
        paths: the files.
        side: height and width of the squares, in pixels.

    """

    def __init__(self, paths: Sequence[Path], side: int) -> None:
        # One array, not a million objects: processes that read ahead share its memory.
        self._names = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        self.side = side

    @property
    def shape(self) -> torch.Size:
        """[N, 3, side, side]."""
        return torch.Size((len(self), 3, self.side, self.side))

    def __len__(self) -> int:
        return len(self._names)

    def path(self, index: int) -> Path:
        """The file of one image."""
        return Path(os.fsdecode(self._names[index]))

    def __getitem__(self, indices: Tensor) -> Tensor:
        chosen = [self.path(i) for i in torch.as_tensor(indices).tolist()]
        return torch.stack([decode(path, self.side, str(path)) for path in chosen])


def decode(source: Path | bytes, side: int, name: str) -> Tensor:
    """An image file, or its content, as uint8 [3, side, side]. Raises `DataError`, with `name`, for anything else.

    Also for an image of more than 8 bits per channel, which would be cut off to white.
    """
    with opened(source, name) as image:
        from PIL.Image import Resampling

        image.draft("RGB", (side, side))  # JPEG: decode at a half or a quarter where that is large enough
        scale = side / min(image.size)
        size = tuple(max(side, round(length * scale)) for length in image.size)
        small = image.convert("RGB").resize(size, Resampling.BILINEAR, reducing_gap=2.0)
    left, top = (small.width - side) // 2, (small.height - side) // 2
    pixels = np.asarray(small.crop((left, top, left + side, top + side)))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
