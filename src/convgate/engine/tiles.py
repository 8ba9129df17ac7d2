"""How a mask of tiles lies over the positions of a map."""

from functools import lru_cache

import numpy as np

__all__ = ["tile_of"]


@lru_cache(maxsize=256)
def tile_of(size: int, tiles: int) -> np.ndarray:
    """int64 [size], read-only: the tile of each position along an axis with `tiles` tiles.

    Where they divide the axis, tiles are of equal size. Uneven ones lie as PyTorch's nearest-neighbour interpolation
    rounds: position y is of tile floor(y * (tiles / size)) in float32, which for some sizes is not floor(y * tiles /
    size). The counterparts are `convgate.gating.expand_tiles` and `native/runtime/gates.cpp`.

    >>> tile_of(6, 3).tolist(), tile_of(5, 3).tolist()
    ([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2])
    """
    positions = np.arange(size)
    if size % tiles == 0:
        found = positions // (size // tiles)
    else:
        scale = np.float32(tiles) / np.float32(size)
        found = np.minimum(np.floor(positions.astype(np.float32) * scale).astype(np.int64), tiles - 1)
    found.flags.writeable = False
    return found
