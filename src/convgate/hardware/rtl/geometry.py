"""How maps, weights and masks lie in memory, as the simulator counts them."""

import numpy as np

from convgate.engine.tiles import tile_of

__all__ = ["bounds", "open_places", "stride", "words"]

_LINE = 64


def stride(entry: int) -> int:
    """Bytes from one entry to the next: a power of two, or whole lines.

    >>> [stride(n) for n in (3, 16, 40, 70)]
    [4, 16, 64, 128]
    """
    return -(-entry // _LINE) * _LINE if entry >= _LINE else 1 << (entry - 1).bit_length()


def bounds(tiles: int, size: int) -> np.ndarray:
    """Where each of `tiles` begins along a side of `size` positions, and where the last ends.

    >>> bounds(4, 7).tolist()
    [0, 2, 4, 6, 7]
    """
    return np.searchsorted(tile_of(size, tiles), np.arange(tiles + 1))


def open_places(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The open positions (row * width + column) of a mask of tiles, in the index module's order: tile by tile.

    >>> open_places(np.array([[1, 0], [0, 1]]), (2, 4)).tolist()
    [0, 1, 6, 7]
    """
    rows, columns = bounds(mask.shape[0], size[0]), bounds(mask.shape[1], size[1])
    found = [
        np.add.outer(np.arange(rows[i], rows[i + 1]) * size[1], np.arange(columns[j], columns[j + 1])).ravel()
        for i, j in np.argwhere(mask)
    ]
    return np.concatenate([np.zeros(0, np.int64), *found])


def words(bits: np.ndarray, width: int) -> list[int]:
    """Entries of 0 and 1 in words of `width` bits, the first in the lowest bit.

    >>> words(np.array([1, 0, 0, 1, 1]), 4)
    [9, 1]
    """
    text = "".join(map(str, bits.astype(int).ravel()[::-1]))
    whole = int(text, 2)
    return [whole >> begin & ((1 << width) - 1) for begin in range(0, bits.size, width)]
