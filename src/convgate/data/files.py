"""Image files that are decoded when they are asked for, in the place of a tensor of images in memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convgate.errors import DataError

__all__ = ["ImageFiles"]

_THREADS = 8
# Pillow decodes and resizes without Python's lock.


class ImageFiles:
    """Colour images in files, as squares of one size: what an `ImageSet` asks of its tensor, uint8 [N, 3, side, side].

    Indexing with a slice or integers [M] decodes those images: the shorter side is resized to `side`, and the square in
    the middle is taken. Raises `DataError` for a file that is no image.

    Args:
        paths: of the files.
        side: of the squares.

    """

    dtype, device, ndim = torch.uint8, torch.device("cpu"), 4

    def __init__(self, paths: Sequence[Path], side: int) -> None:
        self.paths = tuple(paths)
        self.side = side

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> torch.Size:
        """[N, 3, side, side]."""
        return torch.Size((len(self), 3, self.side, self.side))

    def is_contiguous(self) -> bool:
        """Whatever is decoded is."""
        return True

    def select(self, indices: Tensor) -> "ImageFiles":
        """The files at integer `indices` [M], not decoded."""
        return ImageFiles([self.paths[i] for i in indices.tolist()], self.side)

    def __getitem__(self, index: Any) -> Tensor:
        chosen = range(len(self))[index] if isinstance(index, slice) else torch.as_tensor(index).tolist()
        with ThreadPoolExecutor(_THREADS) as pool:
            return torch.stack(list(pool.map(lambda i: _decode(self.paths[i], self.side), chosen)))


def _decode(path: Path, side: int) -> Tensor:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))  # JPEG: decode at a half or a quarter where that is large enough
            scale = side / min(image.size)
            size = tuple(max(side, round(length * scale)) for length in image.size)
            small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)  # type: ignore[arg-type]
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    left, top = (small.width - side) // 2, (small.height - side) // 2
    pixels = np.asarray(small.crop((left, top, left + side, top + side)))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
