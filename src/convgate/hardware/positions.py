"""Which positions of a map are touched, and how many lines of memory they lie in."""

import numpy as np

from convgate.engine.tiles import tile_of
from convgate.hardware.steps import ArrayStep

__all__ = ["expanded", "lines", "read_positions", "touched_lines"]


def expanded(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A tile mask [N, 1, rows, columns] at each position: bool [N, height, width], by nearest neighbour."""
    rows, columns = (tile_of(size[i], mask.shape[2 + i]) for i in range(2))
    return mask[:, 0, rows][:, :, columns] != 0


def read_positions(step: ArrayStep, open_: np.ndarray) -> np.ndarray:
    """The input positions that the open outputs [N, height, width] read: bool [N, height, width] of the input."""
    (height, width), (rows, columns) = step.source, step.out
    top, left = step.padding[:2]
    reach = [(step.out[i] - 1) * step.stride[i] + (step.kernel[i] - 1) * step.dilation[i] + 1 for i in range(2)]
    canvas = np.zeros((len(open_), max(top + height, reach[0]), max(left + width, reach[1])), bool)
    down, right = step.stride
    for y in range(0, step.kernel[0] * step.dilation[0], step.dilation[0]):
        for x in range(0, step.kernel[1] * step.dilation[1], step.dilation[1]):
            canvas[:, y : y + down * (rows - 1) + 1 : down, x : x + right * (columns - 1) + 1 : right] |= open_
    return canvas[:, top : top + height, left : left + width]


def lines(touched: np.ndarray, entry_bytes: int, line_bytes: int) -> np.ndarray:
    """How many lines the touched entries [N, entries] lie in: int64 [N].

    Entries are stored one after another, each padded to a power of two, or to whole lines if it is larger than one.

    >>> lines(np.array([[True, False, False, False, True]]), 16, 64)
    array([2])
    """
    if entry_bytes >= line_bytes:
        return touched.sum(1, dtype=np.int64) * -(-entry_bytes // line_bytes)
    together = line_bytes // (1 << (entry_bytes - 1).bit_length())
    padding = -touched.shape[1] % together
    padded = np.pad(touched, ((0, 0), (0, padding)))
    return padded.reshape(len(touched), -1, together).any(2).sum(1, dtype=np.int64)


def touched_lines(open_: np.ndarray, entry_bytes: int, line_bytes: int) -> np.ndarray:
    """How many lines of one row the open entries [N, .., entries] lie in, stored without padding: int64 [N, ..].

    >>> touched_lines(np.array([[True, False, True]]), 36, 64)
    array([2])
    """
    begin = np.arange(open_.shape[-1]) * entry_bytes
    first, last = begin // line_bytes, (begin + entry_bytes - 1) // line_bytes
    number = np.arange(last[-1] + 1)
    within = (first[:, None] <= number) & (number <= last[:, None])
    return ((open_.astype(np.float32) @ within.astype(np.float32)) > 0).sum(-1, dtype=np.int64)
