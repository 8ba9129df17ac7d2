"""A gate's mask over the positions and channels of a value, and the MACs that gates leave of a convolution."""

from collections.abc import Callable

import numpy as np

from convgate.engine.program import Conv, Gate, GateKind, Value
from convgate.engine.tiles import tile_of

__all__ = ["dilated", "executed_macs", "spread"]


def spread(gate: Gate, mask: np.ndarray, value: Value, reach: tuple[int, int] = (0, 0)) -> np.ndarray:
    """uint8 [N, C or 1, H or 1, W or 1]: the mask of a gate of positions or channels, as it is on `value`, dilated."""
    if gate.kind == GateKind.SPATIAL:
        rows, columns = tile_of(value.height, mask.shape[2]), tile_of(value.width, mask.shape[3])
        return dilated(mask[:, :, rows][:, :, :, columns], reach)
    return mask[:, np.arange(value.channels) // gate.group]


def dilated(mask: np.ndarray, reach: tuple[int, int]) -> np.ndarray:
    """A mask of 0 and 1 [.., height, width], open where one is that is at most `reach` rows and columns away.

    >>> dilated(np.array([[0, 0, 0, 1]]), (0, 1))
    array([[0, 0, 1, 1]])
    """
    for axis, by in zip((-2, -1), reach, strict=True):
        if by:
            around = [(0, 0)] * mask.ndim
            around[axis] = by, by
            windows = np.lib.stride_tricks.sliding_window_view(np.pad(mask, around), 2 * by + 1, axis)
            mask = windows.max(-1)
    return mask


def executed_macs(
    op: Conv, weight: np.ndarray, mask: Callable[..., np.ndarray], x: Value, out: Value, batch: int
) -> np.ndarray:
    """int64 [N]: pairs of open input and output channels of a group, times open positions, times the kernel's size.

    `mask` gives a gate's mask as large as it is on a value, dilated by a reach; `x` is what the convolution reads,
    `out` what it writes.
    """

    def by_group(gate: str, value: Value) -> np.ndarray:
        if not gate:
            return np.full((batch, op.groups), value.channels // op.groups)
        return mask(gate, value).reshape(batch, op.groups, -1).sum(2, dtype=np.int64)

    positions = np.full(batch, out.height * out.width)
    if op.positions:
        positions = mask(op.positions, out, op.reach).reshape(batch, -1).sum(1, dtype=np.int64)
    pairs = (by_group(op.in_channels, x) * by_group(op.out_channels, out)).sum(1)
    return np.asarray(pairs * positions * weight.shape[2] * weight.shape[3], np.int64)
