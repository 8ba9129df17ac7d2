"""From open parts to folds: what the array is loaded with, in order.

A fold is one load of weights: `r` rows of them, through which `T` positions are sent. The folds of a step come in
blocks, each a regular nest: for each column block and tap, the row blocks, of which the last may be smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from convgate.hardware.counts import Counts
from convgate.hardware.steps import ArrayStep, Completion

__all__ = ["Block", "blocks", "completion_rows", "planes", "products", "tap_shape"]


@dataclass(frozen=True, eq=False)
class Block:
    """A nest of folds, for N images; int64 [N] each, or one number for all.

    For each of `column_blocks` and of `taps`, `row_blocks` folds with the array's rows, the last with `last_rows`;
    `positions` are sent through each. A block of which any of the four is 0 is not there. `columns` are the columns in
    use, summed over the column blocks, and `weights` those that are loaded; `band` is the band of positions that it
    belongs to, `waits` says that it needs decisions on sums of an earlier block.
    """

    positions: np.ndarray
    column_blocks: np.ndarray
    taps: int
    row_blocks: np.ndarray
    last_rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    band: int
    waits: bool = False

    @property
    def nests(self) -> np.ndarray:
        """Row blocks are gone through so often."""
        return self.column_blocks * self.taps

    @property
    def there(self) -> np.ndarray:
        """Whether there are any folds: bool [N]."""
        found = (self.positions > 0) & (self.nests > 0) & (self.row_blocks > 0)
        return np.asarray(found)

    @property
    def folds(self) -> np.ndarray:
        """How many folds: [N]."""
        return np.where(self.there, self.nests * self.row_blocks, 0)

    def rows(self, most: int) -> np.ndarray:
        """Rows of weights of all folds: [N]."""
        return np.where(self.there, self.nests * (most * (self.row_blocks - 1) + self.last_rows), 0)


def planes(step: ArrayStep, columns: int) -> bool:
    """Whether a head's convolution can be formed as one product per tap, side by side, that are shifted and added."""
    fits = step.taps > 1 and step.groups == 1 and step.taps * step.out_channels <= columns
    return step.head and fits and step.out == step.source and not step.of_images


def tap_shape(step: ArrayStep, *, tap_planes: bool, packed: bool, columns: int) -> tuple[int, int, int]:
    """(how often the rows are repeated, how often the columns, how many taps follow each other) on the array.

    Taps follow each other, or lie side by side in rows (`packed`, and images, which are sent once for each tap), or in
    columns (`tap_planes`).
    """
    if tap_planes and planes(step, columns):
        return 1, step.taps, 1
    if packed or step.of_images:
        return step.taps, 1, 1
    return 1, 1, step.taps


def blocks(step: ArrayStep, counts: Counts, rows: int, columns: int, shape: tuple[int, int, int]) -> list[Block]:
    """The blocks of a step on an array of `rows` by `columns`, in order; `shape` is `tap_shape`'s."""
    if step.completion is not None:
        return _completed(step, step.completion, counts, rows, columns, shape)
    deep, wide, taps = shape
    if step.transposed:
        taps, wide = 1, step.taps
    found: list[Block] = []
    for band in range(counts.positions.shape[1]):
        sent = counts.positions[:, band]
        for inputs, outputs in _packs(step, counts, rows, columns):
            if step.depthwise:
                found += _diagonal(sent, outputs, min(rows, columns), step.taps, band)
                continue
            found.append(_block(sent, inputs * deep, outputs * wide, rows, columns, taps, band))
    return found


def _packs(step: ArrayStep, counts: Counts, rows: int, columns: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Open (inputs, outputs) of groups that share folds: as many as fit on the diagonal."""
    live = (counts.inputs > 0) & (counts.outputs > 0)
    inputs, outputs = counts.inputs * live, counts.outputs * live
    if step.depthwise:
        return [(inputs.sum(1), outputs.sum(1))]
    together = max(1, min(rows * step.groups // step.in_channels, columns * step.groups // step.out_channels))
    starts = list(range(0, step.groups, together))
    ins, outs = np.add.reduceat(inputs, starts, axis=1), np.add.reduceat(outputs, starts, axis=1)
    return [(ins[:, i], outs[:, i]) for i in range(len(starts))]


def _block(
    sent: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, rows: int, columns: int, taps: int, band: int
) -> Block:
    row_blocks = -(-inputs // rows)
    last = inputs - (row_blocks - 1) * rows
    live = outputs > 0
    weights = taps * inputs * outputs
    return Block(sent, -(-outputs // columns), taps, np.where(live, row_blocks, 0), last, outputs, weights, band)


def _diagonal(sent: np.ndarray, channels: np.ndarray, width: int, taps: int, band: int) -> Sequence[Block]:
    """Depthwise: as many open channels as the array's diagonal is long, then what is left."""
    full, rest = channels // width, channels % width
    one, whole = np.ones_like(channels), np.full_like(channels, width)
    return (
        Block(sent, full, taps, one, whole, full * width, full * width * taps, band),
        Block(sent, (rest > 0).astype(np.int64), taps, one, rest, rest, rest * taps, band),
    )


def completion_rows(how: Completion, outputs: int, begin: int, end: int) -> tuple[int, int]:
    """Input channels that the outputs from `begin` to before `end` read: in their base paths, and to complete them.

    Outputs of one chunk read one chunk of the inputs in their base paths; those of several chunks all of theirs, with
    zeros as weights where a channel is not an output's own.
    """
    if how.parts == 1:
        return how.base, how.rest
    chunk = outputs // how.parts
    spanned = (end - 1) // chunk - begin // chunk + 1
    size = how.base or how.rest // (how.parts - 1)
    return (size * spanned if how.base else 0), (how.rest if spanned == 1 else size * how.parts)


def _completed(
    step: ArrayStep, how: Completion, counts: Counts, rows: int, columns: int, shape: tuple[int, int, int]
) -> list[Block]:
    """base(0), base(1), completion(0), base(2), completion(1), ... for each band."""
    assert counts.any_open is not None
    deep, _, taps = shape
    found = []
    for band in range(counts.positions.shape[1]):
        bases, rests = [], []
        for number, begin in enumerate(range(0, step.out_channels, columns)):
            end = min(begin + columns, step.out_channels)
            base, rest = completion_rows(how, step.out_channels, begin, end)
            width, sent = np.asarray(end - begin), counts.positions[:, band]
            bases.append(_block(sent, np.asarray(base * deep), width, rows, columns, taps, band))
            whole = _block(counts.any_open[:, band, number], np.asarray(rest * deep), width, rows, columns, taps, band)
            rests.append(replace(whole, waits=True))
        found.append(bases[0])
        for i in range(1, len(bases)):
            found += [bases[i], rests[i - 1]]
        found.append(rests[-1])
    return found


def products(step: ArrayStep, counts: Counts, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same step as plain matrix products, one after another: their positions, depths and widths, [N, products]."""
    area, how = counts.area, step.completion
    if how is not None:
        assert counts.any_open is not None
        triples = []
        if how.base:
            triples += [(area, how.base * step.taps, step.out_channels // how.parts)] * how.parts
        for number, begin in enumerate(range(0, step.out_channels, columns)):
            end = min(begin + columns, step.out_channels)
            rest = completion_rows(how, step.out_channels, begin, end)[1]
            triples.append((counts.any_open[:, :, number].sum(1), rest * step.taps, end - begin))
        sent, depths, widths = (
            np.stack([np.broadcast_to(n, len(area)) for n in column], 1) for column in zip(*triples, strict=True)
        )
        return sent, depths, widths
    deep, wide = (1, step.taps) if step.transposed else (step.taps, 1)
    return np.broadcast_to(area[:, None], counts.inputs.shape), counts.inputs * deep, counts.outputs * wide
