"""A gate's mask over the positions and channels of a value, and the MACs that gates leave of a convolution."""

from collections.abc import Callable

import numpy as np

from convgate.engine.program import Conv, Gate, GateKind, Value

__all__ = ["executed_macs", "spread"]


def spread(gate: Gate, mask: np.ndarray, value: Value) -> np.ndarray:
    """uint8 [N, C or 1, H or 1, W or 1]: the mask of a gate of positions or channels, as it is on `value`."""
    if gate.kind == GateKind.SPATIAL:
        rows = np.arange(value.height) * mask.shape[2] // value.height
        columns = np.arange(value.width) * mask.shape[3] // value.width
        return mask[:, :, rows][:, :, :, columns]
    return mask[:, np.arange(value.channels) // gate.group]


def executed_macs(
    op: Conv, weight: np.ndarray, mask: Callable[[str, Value], np.ndarray], x: Value, out: Value, batch: int
) -> np.ndarray:
    """int64 [N]: pairs of open input and output channels of a group, times open positions, times the kernel's size.

    `mask` gives a gate's mask as large as it is on a value; `x` is what the convolution reads, `out` what it writes.
    """

    def by_group(gate: str, value: Value) -> np.ndarray:
        if not gate:
            return np.full((batch, op.groups), value.channels // op.groups)
        return mask(gate, value).reshape(batch, op.groups, -1).sum(2, dtype=np.int64)

    positions = np.full(batch, out.height * out.width)
    if op.positions:
        positions = mask(op.positions, out).reshape(batch, -1).sum(1, dtype=np.int64)
    pairs = (by_group(op.in_channels, x) * by_group(op.out_channels, out)).sum(1)
    return np.asarray(pairs * positions * weight.shape[2] * weight.shape[3], np.int64)
