"""From masks to whole numbers: how much of an array step is open, for each image.

Everything is vectorised over images; loops are over bands and column blocks alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from convgate.engine.program import Gate
from convgate.engine.tiles import tile_of
from convgate.hardware.steps import ArrayStep, Completion

__all__ = ["Counts", "Masks", "bands", "count", "open_channels", "tile_positions"]

Masks = Mapping[str, np.ndarray]
"""Gate -> uint8 [N, units, rows, columns] of 0 and 1."""


@dataclass(frozen=True, eq=False)
class Counts:
    """What is open of one step, for N images; int64.

    `positions` [N, bands] are open positions, `inputs` and `outputs` [N, groups] open channels, `macs` [N].
    Of a completion, `any_open` [N, bands, column blocks] are the positions at which any channel of the block is open.
    """

    positions: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    macs: np.ndarray
    any_open: np.ndarray | None = None

    @property
    def area(self) -> np.ndarray:
        """Open positions of each image: [N]."""
        return self.positions.sum(1)


def bands(out: tuple[int, int], most: int) -> tuple[tuple[int, int], ...]:
    """Ranges of rows whose positions fit into `most` sums, at least one row each.

    >>> bands((56, 56), 1024)
    ((0, 18), (18, 36), (36, 54), (54, 56))
    """
    rows = max(1, most // out[1])
    return tuple((begin, min(begin + rows, out[0])) for begin in range(0, out[0], rows))


def count(step: ArrayStep, gates: Mapping[str, Gate], masks: Masks, images: int, most: int, columns: int) -> Counts:
    """What is open of a step; sums of `most` positions fit on chip, and the array is `columns` wide."""
    ranges = bands(step.out, most)
    if step.positions:
        mask = masks[step.positions]
        weights = tile_positions(mask.shape[2:], step.out, ranges)
        positions = _product(mask.reshape(images, -1), weights)
    else:
        rows = np.array([end - begin for begin, end in ranges], np.int64)
        positions = np.broadcast_to(rows * step.out[1], (images, len(rows)))
    inputs = _open_by_group(step.inputs, step.in_channels, step.groups, gates, masks, images)
    outputs = _open_by_group(step.outputs, step.out_channels, step.groups, gates, masks, images)
    if step.completion is not None:
        return _completed(step, step.completion, masks, positions, inputs, outputs, ranges, columns)
    macs = step.taps * positions.sum(1) * (inputs * outputs).sum(1)
    return Counts(positions, inputs, outputs, macs)


@lru_cache(maxsize=512)
def tile_positions(tiles: tuple[int, int], size: tuple[int, int], ranges: tuple[tuple[int, int], ...]) -> np.ndarray:
    """How many positions of each range of rows belong to each tile: float64 [rows * columns, ranges]."""
    row_of, column_of = tile_of(size[0], tiles[0]), tile_of(size[1], tiles[1])
    by_row = np.array([np.bincount(row_of[begin:end], minlength=tiles[0]) for begin, end in ranges])
    by_column = np.bincount(column_of, minlength=tiles[1])
    return (by_row[:, :, None] * by_column).reshape(len(ranges), -1).T.astype(np.float64)


def open_channels(gate: Gate, mask: np.ndarray, channels: int) -> np.ndarray:
    """Which single channels a channel gate opens: uint8 [N, channels]."""
    units = mask.reshape(len(mask), -1)
    return units[:, :channels] if gate.group == 1 else np.repeat(units, gate.group, axis=1)[:, :channels]


def _open_by_group(
    name: str, channels: int, groups: int, gates: Mapping[str, Gate], masks: Masks, images: int
) -> np.ndarray:
    if not name:
        return np.broadcast_to(np.int64(channels // groups), (images, groups))
    single = open_channels(gates[name], masks[name], channels)
    return single.reshape(images, groups, -1).sum(2, dtype=np.int64)


def _completed(
    step: ArrayStep,
    how: Completion,
    masks: Masks,
    positions: np.ndarray,
    inputs: np.ndarray,
    outputs: np.ndarray,
    ranges: tuple[tuple[int, int], ...],
    columns: int,
) -> Counts:
    mask, group, channels = masks[how.gate.name], how.gate.group, step.out_channels
    starts = [begin for begin, _ in ranges]
    blocks, widths = -(-channels // columns), np.diff(np.append(np.arange(0, channels, group), channels))
    per_unit = mask.reshape(*mask.shape[:2], -1).sum(2, dtype=np.int64)
    any_open = np.empty((len(mask), len(ranges), blocks), np.int64)
    for block in range(blocks):
        first, last = block * columns, min((block + 1) * columns, channels)
        anywhere = np.bitwise_or.reduce(mask[:, first // group : -(-last // group)], axis=1)
        any_open[:, :, block] = np.add.reduceat(anywhere.sum(2, dtype=np.int64), starts, axis=1)
    macs = step.taps * (how.base * step.area * channels + how.rest * (per_unit * widths).sum(1))
    return Counts(positions, inputs, outputs, macs, any_open)


def _product(mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Their matrix product, of whole numbers far below 2^53, which floating point forms exactly."""
    return np.rint(mask.astype(np.float64) @ weights).astype(np.int64)
