"""Partial sums, the decision on them and their completion as one job of the accelerator."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from convgate.engine.program import IntegerComplete, IntegerConvToSums, IntegerDecide, Program
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.folds import completion_rows
from convgate.hardware.rtl.geometry import stride
from convgate.hardware.rtl.layer import SCALES, Layer, scale_words, weight_bytes
from convgate.hardware.steps import ArrayStep, Completion

__all__ = ["CompletedLayer", "PartialSums", "partial_sums", "weight_rows"]

_BLOCKS, _THRESHOLDS, _RESTS = 4, 5, 6


@dataclass(frozen=True, eq=False)
class PartialSums:
    """What a completion belongs to: the convolution that its partial sums are of, and the decision on them."""

    base: IntegerConvToSums
    decision: IntegerDecide


def partial_sums(program: Program, op: IntegerComplete, step: ArrayStep, machine: Accelerator) -> PartialSums | None:
    """What `op` completes, if the RTL can do all of it; None if the host has to.

    The RTL takes a map that both convolutions read in chunks, and decides itself: no unit of the gate may lie in two
    blocks of columns. Rows that begin behind an output's own chunk go on with the first channels, which lie in the
    right rows' buffers if the channels fill whole rows.
    """
    how = step.completion
    base = next((other for other in program.operations if other.output == op.inputs[1]), None)
    decision = next((other for other in program.operations if other.output == op.gate), None)
    if (
        how is None
        or how.parts == 1
        or not how.base
        or not isinstance(base, IntegerConvToSums)
        or not isinstance(decision, IntegerDecide)
        or decision.inputs[0] != base.output
        or base.inputs[0] != op.inputs[0]
    ):
        return None
    spans = how.gate.group > 1 and step.out_channels > machine.columns and machine.columns % how.gate.group
    wraps = any(start + rows > step.in_channels for _, rest in _blocks(step, machine.columns) for start, rows in [rest])
    if spans or how.parts > 255 or (wraps and step.in_channels % machine.rows):
        return None
    return PartialSums(base, decision)


def weight_rows(step: ArrayStep, columns: int) -> int:
    """Rows of the weight buffer that a step needs at most."""
    if step.completion is None:
        return step.taps * step.in_channels * -(-step.out_channels // columns)
    return step.taps * sum(rows for block in _blocks(step, columns) for _, rows in block)


def _blocks(step: ArrayStep, columns: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """By block of columns, of the base path and of the completion: the first input channel that is read, and how many.

    Outputs of one chunk are completed by the channels behind it and, after the last, those before it.
    """
    how = step.completion
    assert how is not None
    chunk, found = step.out_channels // how.parts, []
    for begin in range(0, step.out_channels, columns):
        end = min(begin + columns, step.out_channels)
        base, rest = completion_rows(how, step.out_channels, begin, end)
        alone = rest < step.in_channels
        first = begin // chunk * how.base if how.parts > 1 else 0
        behind = (first + base) % step.in_channels if alone else 0
        found.append(((first, base), (behind, rest)))
    return found


@dataclass(frozen=True, eq=False)
class CompletedLayer(Layer):
    """A `Layer` whose `op` is an `IntegerComplete`, with the `partial` sums that it completes."""

    op: IntegerComplete
    partial: PartialSums

    @property
    def compact(self) -> bool:
        """Never: all of it is written."""
        return False

    def _flags(self) -> dict[str, bool]:
        return super()._flags() | {"COMPLETED": True, "WHOLE_OUTPUT": False}

    def _values(self, places: Mapping[str, int]) -> dict[str, int]:
        return super()._values(places) | {
            "W_STRIDE": stride(self._array(self.partial.base.weight)[0].size),
            "R_STRIDE": stride(self._array(self.op.weight)[0].size),
            "CHUNK": self._how.base,
        }

    @property
    def _how(self) -> Completion:
        assert self.step.completion is not None
        return self.step.completion

    def _array(self, name: str) -> np.ndarray:
        return self.program.arrays[name]

    def _chunks(self) -> np.ndarray:
        """Of each output channel, the chunk of inputs that its partial sum is of."""
        return np.arange(self.step.out_channels) * self._how.parts // self.step.out_channels

    def _weights(self) -> dict[str, np.ndarray]:
        """As they are read: those of a block of columns that is of one chunk begin behind that."""
        rest, blocks = self._array(self.op.weight).copy(), _blocks(self.step, self.columns)
        for channel, chunk in enumerate(self._chunks().tolist()):
            _, (_, rows) = blocks[channel // self.columns]
            if rows < self.step.in_channels:
                rest[channel] = np.roll(rest[channel], -chunk * self._how.base, axis=0)
        return {"W_BASE": weight_bytes(self._array(self.partial.base.weight)), "R_BASE": weight_bytes(rest)}

    def _scales(self) -> list[tuple[int, int, int]]:
        """Biases and scales of what stays partial, thresholds, what differs where sums are complete.

        A sum begins with its bias where it stays partial. The threshold makes up for that, and so does what is added
        with the first part of a completion; all of it modulo 2^32, which no sum that matters leaves.
        """
        op, decision, channels = self.op, self.partial.decision, self.step.out_channels
        bias, opened = (self._array(name).astype(np.int64) for name in (op.bias, op.open_bias))
        group = self._how.gate.group
        begins = np.arange(0, channels, group)
        offsets = self._array(decision.offset).ravel().astype(np.int64) + (not decision.strict)
        threshold = np.repeat(offsets - np.add.reduceat(bias, begins), group)[:channels]
        ends = np.isin(np.arange(channels), np.append(begins[1:], channels) - 1)
        more = scale_words(opened - bias, self._array(op.open_multiplier), self._array(op.open_shift))
        if self.partial.base.bias:
            bias = bias + self._array(self.partial.base.bias)
        plain = scale_words(bias, self._array(op.multiplier), self._array(op.shift))
        chunks = self._chunks().tolist()
        writes = [(SCALES, i, word | chunk << 54) for i, (word, chunk) in enumerate(zip(plain, chunks, strict=True))]
        for channel in range(-(-channels // self.columns) * self.columns):
            block, lane = divmod(channel, self.columns)
            compared = 0
            if channel < channels:
                compared = 1 << 33 | int(ends[channel]) << 32 | int(threshold[channel]) & 0xFFFFFFFF
                writes.append((_RESTS, block, lane << 56 | more[channel]))
            writes.append((_THRESHOLDS, block, lane << 56 | compared))
        area = self.step.source[0] * self.step.source[1]
        for block, both in enumerate(_blocks(self.step, self.columns)):
            for rest, (start, rows) in enumerate(both):
                word = rows | start // self.rows * area << 16 | start % self.rows << 32
                writes.append((_BLOCKS, 2 * block + rest, word))
        return writes
