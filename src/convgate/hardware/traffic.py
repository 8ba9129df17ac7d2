"""What a step moves between the chip and its memory, by tensor: in words, and in bursts.

Maps lie position by position, channels side by side, each position padded to a power of two or to whole bursts; compact
maps without what is closed and without padding. Weights lie output channel by output channel, taps innermost, rows
padded to whole bursts if they are larger than one. Words are what is needed; bursts are what the memory gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convgate.engine.program import Gate
from convgate.hardware.accelerator import Accelerator
from convgate.hardware.counts import Counts, Masks, open_channels
from convgate.hardware.placement import Placement
from convgate.hardware.positions import expanded, lines, read_positions, touched_lines
from convgate.hardware.steps import ArrayStep, VectorStep
from convgate.hardware.workload import Workload

__all__ = ["TENSORS", "Traffic"]

TENSORS = ("inputs", "weights", "added", "outputs", "masks")
"""What is moved: maps that are read, weights, maps that are added to what is written, maps that are written, masks."""

_Pair = tuple[Any, Any]
"""Words and bursts: int64 [N], or numbers that are the same for all images."""


@dataclass(eq=False)
class Traffic:
    """The traffic of the steps of one workload for N images; `array` and `vector` are called in the steps' order.

    Both give tensor -> (words, bursts), int64 [N] each; `compact` has the words of the compact maps written so far.
    Masks stay on chip: the index module reads them there.
    """

    workload: Workload
    placement: Placement
    machine: Accelerator
    masks: Masks
    images: int
    compact: dict[str, np.ndarray] = field(default_factory=dict)

    def array(self, step: ArrayStep, counts: Counts) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """Of a step on the array."""
        passes = self.placement.passes[step.name]
        found: dict[str, _Pair] = {}
        live = counts.macs > 0
        source = step.reads[0]
        if source not in self.placement.resident:
            words, bursts = self._inputs(step, counts, source)
            found["inputs"] = words * passes.inputs * live, bursts * passes.inputs * live
        words, bursts = self._weights(step, counts)
        again = (counts.positions > 0).sum(1) if passes.weights_by_band else 1
        found["weights"] = words * again * live, bursts * again * live
        moved = self._outputs(step, counts)
        if step.added and step.added not in self.placement.resident:
            found["added"] = moved
        if step.writes not in self.placement.resident:
            found["outputs"] = moved
        if step.writes in self.placement.compact:
            self.compact[step.writes] = moved[0]
        return {tensor: self._each(*pair) for tensor, pair in found.items()}

    def vector(self, step: VectorStep) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """Of a step on the vector unit."""
        found: dict[str, _Pair] = {}
        reads = [name for name in step.reads if name not in self.placement.resident]
        if reads and not self.on_the_way(step):
            both = [self._map(name) for name in reads]
            found["inputs"] = self._each(sum(words for words, _ in both), sum(bursts for _, bursts in both))
        if step.writes not in self.placement.resident:
            found["outputs"] = self._each(*self._map(step.writes))
        return found

    def on_the_way(self, step: VectorStep) -> bool:
        """Whether a step is done while what it reads is written."""
        return self.machine.pool_on_write and step.pooled and step.reads[0] not in self.workload.images

    def _each(self, words: Any, bursts: Any) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.broadcast_to(np.asarray(words, np.int64), self.images),
            np.broadcast_to(np.asarray(bursts, np.int64), self.images),
        )

    def _bursts(self, words: Any) -> Any:
        return -(-words * self.machine.word_bytes // self.machine.dram_burst_bytes)

    def _map(self, name: str) -> _Pair:
        """A whole map."""
        if name in self.compact:
            words = self.compact[name]
            return words, self._bursts(words)
        channels, height, width = self.workload.maps[name].shape
        positions = np.ones((1, height * width), bool)
        entry = channels * self.machine.word_bytes
        return channels * height * width, lines(positions, entry, self.machine.dram_burst_bytes)

    def _inputs(self, step: ArrayStep, counts: Counts, source: str) -> _Pair:
        channels = counts.inputs.sum(1)
        if step.of_images:  # sent once for each tap, so that the array's rows are filled
            words = counts.area * step.taps * channels
            return words, self._bursts(words)
        stored = self.workload.maps[source].channels
        needed = read_positions(step, self._open_positions(step))
        if step.read_positions:
            needed = needed & expanded(self.masks[step.read_positions], step.source)
        needed = needed.reshape(len(needed), -1)
        words = needed.sum(1, dtype=np.int64) * channels
        if (how := step.completion) is not None and how.parts == 1:
            # The channels that only completions read, where one of them reads.
            somewhere = np.asarray(self.masks[how.gate.name].any(axis=1))
            rest = (read_positions(step, somewhere).reshape(self.images, -1) & needed).sum(1, dtype=np.int64)
            words = words - needed.sum(1, dtype=np.int64) * how.rest + rest * how.rest
        if source in self.compact:
            return words, self._bursts(self.compact[source])
        entry = stored * self.machine.word_bytes
        return words, lines(needed, entry, self.machine.dram_burst_bytes)

    def _outputs(self, step: ArrayStep, counts: Counts) -> _Pair:
        """What is written, and where something is added to it what is read for that."""
        if step.transposed or (step.added and not step.in_place) or step.completion is not None:
            return self._map(step.writes)
        channels = counts.outputs.sum(1)
        words = counts.area * channels
        if not step.in_place:
            return words, self._bursts(words)
        whole = step.out_channels * self.machine.word_bytes
        line = self.machine.dram_burst_bytes
        if step.outputs and whole > line:
            gate = self.workload.gates[step.outputs]
            single = open_channels(gate, self.masks[step.outputs], step.out_channels) != 0
            return words, counts.area * touched_lines(single, self.machine.word_bytes, line)
        open_ = self._open_positions(step)
        return words, lines(open_.reshape(len(open_), -1), whole, line) * (channels > 0)

    def _weights(self, step: ArrayStep, counts: Counts) -> _Pair:
        line, word = self.machine.dram_burst_bytes, self.machine.word_bytes
        if (how := step.completion) is not None:
            assert counts.any_open is not None
            width = self.machine.columns
            starts = np.arange(0, step.out_channels, width)
            widths = np.minimum(step.out_channels - starts, width)
            completed = np.repeat(counts.any_open.sum(1) > 0, widths, axis=1)  # output channels, by blocks of columns
            base, rest = step.taps * how.base, step.taps * how.rest
            bursts = lines(completed, rest * word, line)
            if how.base:
                bursts = bursts + lines(np.ones((1, step.out_channels), bool), base * word, line)
            return step.out_channels * base + completed.sum(1, dtype=np.int64) * rest, bursts
        words = step.taps * (counts.inputs * counts.outputs).sum(1)
        row = step.taps * step.in_channels // step.groups * word
        live_groups = counts.inputs > 0
        if row <= line:
            single = self._open(step.outputs, self.workload.gates, step.out_channels)
            return words, lines(single, row, line) * (words > 0)
        if not step.inputs:
            return words, (counts.outputs * live_groups).sum(1) * -(-row // line)
        single = self._open(step.inputs, self.workload.gates, step.in_channels)
        by_group = single.reshape(len(single), step.groups, -1)
        return words, (touched_lines(by_group, step.taps * word, line) * counts.outputs).sum(1)

    def _open_positions(self, step: ArrayStep) -> np.ndarray:
        """Of the outputs: bool [N or 1, height, width]."""
        if not step.positions:
            return np.ones((1, *step.out), bool)
        return expanded(self.masks[step.positions], step.out)

    def _open(self, name: str, gates: Mapping[str, Gate], channels: int) -> np.ndarray:
        if not name:
            return np.ones((1, channels), bool)
        return open_channels(gates[name], self.masks[name], channels) != 0
