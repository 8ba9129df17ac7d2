"""How many cycles a step takes on the array: closed forms, for N images at once.

`double_buffered` is ours: the next fold's weights are loaded, a row per cycle, while positions of this one are sent.
`serial` and `overlapped` are those of SCALE-Sim 3 and 1, so that its figures can be had to the cycle.
Sources: SCALE-Sim 3.0.0, `compute/systolic_compute_{ws,os,is}.py`; ARM-software/SCALE-Sim issue 51.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convgate.hardware.folds import Block

__all__ = ["ArrayTime", "Products", "double_buffered", "overlapped", "serial", "serial_accesses"]

Products = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Matrix products' positions T, depths K and widths M; int64 [N, products] each, of products that run in turn."""


@dataclass(frozen=True, eq=False)
class ArrayTime:
    """Cycles of one step, int64 [N] each, by cause; their sum is what the step takes.

    `compute`: positions are sent; `weights`: they wait for the rows of the next fold; `first_weights`: for those of the
    step's first fold, which another step may hide; `fill_drain`: the first sums are not out yet, or the last;
    `decisions`: whether sums are completed is not known yet. `by_band` [N, bands] are the same cycles (without
    `fill_drain` and `first_weights`) by band.
    """

    compute: np.ndarray
    weights: np.ndarray
    first_weights: np.ndarray
    fill_drain: np.ndarray
    decisions: np.ndarray
    by_band: np.ndarray

    @property
    def cycles(self) -> np.ndarray:
        """All of them."""
        return self.compute + self.weights + self.first_weights + self.fill_drain + self.decisions


def double_buffered(
    found: Sequence[Block], images: int, bands: int, rows: int, columns: int, latencies: tuple[int, int, int]
) -> ArrayTime:
    """The cycles of blocks of folds on an array of `rows` by `columns`.

    A fold begins when the one before has sent its last position, its own weights are loaded (one row per cycle, from
    the beginning of the fold before) and the sums' memory is ready again. Which weights follow base paths is known when
    their sums are decided on: those of a completion, or, a cycle later, those of what comes after it if nothing is
    open. `latencies` are those of the sums' memory, of the way from the array to the output buffer, and of a decision.
    """
    of_sums, of_output, of_decision = latencies
    zeros = np.zeros(images, np.int64)
    last_start, sent = zeros.copy(), zeros.copy()  # of the last fold so far: when it began, how many positions it sends
    begun = np.zeros(images, bool)
    compute, waited, first, known = zeros.copy(), zeros.copy(), zeros.copy(), zeros.copy()
    by_band = np.zeros((images, bands), np.int64)
    base_ends: list[np.ndarray] = []  # of base paths that are not completed yet
    latency = rows + columns - 1 + of_decision
    for block in found:
        there = np.broadcast_to(block.there, images)
        positions, last_rows = np.broadcast_to(block.positions, images), block.last_rows
        single = block.row_blocks == 1
        first_rows = np.where(single, last_rows, rows)
        if block.waits and base_ends:
            known = np.maximum(known, base_ends.pop(0) + latency + ~there)
        before = last_start + sent
        late = there & (known > last_start)
        start = np.where(begun, last_start + _slot(sent, np.where(late, 0, first_rows), of_sums), first_rows)
        start = np.where(late, np.maximum(start, known + first_rows), start)
        waited += np.where(there, np.clip(known - before, 0, start - before), 0)
        whole = (block.nests * (block.row_blocks - 1) - ~single) * _slot(positions, np.asarray(rows), of_sums)
        partial = (block.nests - single) * _slot(positions, last_rows, of_sums)
        first = np.where(there & ~begun, first_rows, first)
        last_start = np.where(there, start + whole + partial, last_start)
        sent = np.where(there, positions, sent)
        begun = begun | there
        compute += positions * block.folds
        by_band[:, block.band] += last_start + sent - before
        if _has_completion(found) and not block.waits:
            base_ends.append(np.where(there, last_start + sent, -latency))
    total = np.where(begun, last_start + sent, 0)
    draining = rows + columns - 1 + of_output
    undecided = np.where(begun, np.clip(known - total, 0, draining), 0)  # that nothing follows is not known yet
    by_band[:, -1] += undecided
    by_band[np.arange(images), np.argmax(by_band > 0, axis=1)] -= first
    fill_drain = np.where(begun, draining - undecided, 0)
    weights = total - compute - waited - first
    return ArrayTime(compute, weights, first, fill_drain, waited + undecided, by_band)


def _has_completion(found: Sequence[Block]) -> bool:
    return found[-1].waits


def _slot(positions: np.ndarray, rows: np.ndarray, of_sums: int) -> np.ndarray:
    return np.maximum(np.maximum(positions, rows), of_sums)


def serial(products: Products, rows: int, columns: int, dataflow: str) -> ArrayTime:
    """SCALE-Sim 2 and 3 without stalls: loading, sending and draining one fold after another.

    Weight stationary ("ws") ceil(K / rows) * ceil(M / columns) folds of 2 rows + columns + T - 2 cycles, input
    stationary ("is") the same with T and M exchanged, output stationary ("os") ceil(T / rows) * ceil(M / columns) folds
    of rows + columns + K - 2; less one cycle, since SCALE-Sim reports the last cycle's number.

    >>> serial((np.array([[256]]), np.array([[256]]), np.array([[128]])), 32, 32, "ws").cycles
    array([11199])
    """
    folds, sent, loads = _folds(products, rows, columns, dataflow)
    compute, loading = (folds * sent).sum(1), (folds * loads).sum(1)
    draining = np.where(compute > 0, folds.sum(1) * (rows + columns - 2) - 1, 0)
    zeros = np.zeros_like(compute)
    return ArrayTime(compute, loading, zeros, draining, zeros, compute[:, None])


def overlapped(products: Products, rows: int, columns: int) -> ArrayTime:
    """SCALE-Sim 1, weight stationary: every fold takes rows + T cycles.

    >>> overlapped((np.array([[256]]), np.array([[768]]), np.array([[256]])), 128, 128).cycles
    array([4608])
    """
    whole = serial(products, rows, columns, "ws")
    zeros = np.zeros_like(whole.compute)
    return ArrayTime(whole.compute, whole.weights, zeros, zeros, zeros, whole.by_band)


def serial_accesses(products: Products, rows: int, columns: int, dataflow: str) -> tuple[np.ndarray, ...]:
    """Words read from the inputs' and the weights' memory and written to the outputs': int64 [N] each.

    As SCALE-Sim counts them, but for the outputs of "os", to which it adds rows + columns for each fold.

    >>> case = np.array([[256]]), np.array([[256]]), np.array([[128]])
    >>> [int(words[0]) for words in serial_accesses(case, 32, 32, "ws")]
    [262144, 32768, 262144]
    """
    positions, depth, width = products
    inputs, weights, outputs = positions * depth, depth * width, positions * width
    down, across = {"ws": (depth, width), "is": (depth, positions), "os": (positions, width)}[dataflow]
    by_row, by_column = -(-down // rows), -(-across // columns)
    live = (inputs > 0) & (weights > 0)
    often = {"ws": (by_column, 1, by_row), "is": (1, by_column, by_row), "os": (by_column, by_row, 1)}[dataflow]
    return tuple((n * times * live).sum(1) for n, times in zip((inputs, weights, outputs), often, strict=True))


def _folds(products: Products, rows: int, columns: int, dataflow: str) -> tuple[np.ndarray, np.ndarray, int]:
    """(folds, cycles in which something is sent through one, cycles of loading one), [N, products]."""
    positions, depth, width = products
    live = (positions > 0) & (depth > 0) & (width > 0)
    down, across, sent = {
        "ws": (depth, width, positions),
        "is": (depth, positions, width),
        "os": (positions, width, depth),
    }[dataflow]
    folds = np.where(live, -(-down // rows) * -(-across // columns), 0)
    return folds, sent, 0 if dataflow == "os" else rows
