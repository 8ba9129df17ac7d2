"""One convolution of a program as a job of the accelerator: its descriptor, masks and memory, and what it wrote."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from convgate.engine.program import Completing, Conv, Element, Gate, IntegerConv, IntegerConvToFloat, Program
from convgate.hardware.rtl.geometry import bounds, open_places, stride, words
from convgate.hardware.rtl.model import Answer, Job
from convgate.hardware.rtl.sources import registers
from convgate.hardware.steps import ArrayStep

__all__ = ["SCALES", "Layer", "Slots", "listing", "scale_words", "weight_bytes"]

_DESCRIPTOR, _MASKS, _BOUNDS, SCALES = range(4)
_BOUNDS_EACH = 128
_POSITIONS, _READ = 0, 1
_SLOTS = (2, 3)


@dataclass(eq=False)
class Slots:
    """Which channel gate's list of open units lies in which slot of the index module."""

    held: dict[int, str] = field(default_factory=dict)

    def of(self, gate: str, beside: str = "") -> int | None:
        """The slot of a gate's list, None if it is not listed."""
        return next((slot for slot, name in self.held.items() if name == gate), None)

    def take(self, gate: str, beside: str = "") -> int:
        """A slot for a gate's list; that of the gate `beside` stays as it is."""
        kept = self.of(beside)
        slot = self.of(gate)
        if slot is None:
            slot = next((s for s in _SLOTS if s not in self.held), _SLOTS[0])
            if slot == kept:
                slot = next(s for s in _SLOTS if s != kept)
        self.held[slot] = gate
        return slot


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution of one image.

    Args:
        program: that it is of.
        op: an `IntegerConv` or an `IntegerConvToFloat`, of one group; or what a kind of its own says.
        step: the same in the workload.
        masks: of all gates of the program that were decided so far, uint8 [units, rows, columns].
        x: what it reads, [channels, height, width]; `added`: what is added to its results, or None.
        compact_input: whether what is closed of `x` is left out in memory; `first`: whether nothing came before it;
        decided: gates that were decided just before.
        index_bits: of a mask that the index module looks at in one clock, and mask_words that it holds of each.
        rows: of the array, and its columns.

    """

    program: Program
    op: Conv | Completing
    step: ArrayStep
    masks: Mapping[str, np.ndarray]
    x: np.ndarray
    added: np.ndarray | None
    compact_input: bool
    first: bool
    decided: frozenset[str]
    index_bits: int
    mask_words: int
    rows: int
    columns: int

    @property
    def raw(self) -> bool:
        """Whether it writes sums."""
        return isinstance(self.op, IntegerConvToFloat)

    @property
    def compact(self) -> bool:
        """Whether what is closed is left out of what it writes: nothing is added to it."""
        return not self.step.added

    def _gate(self, name: str) -> Gate:
        return next(gate for gate in self.program.gates if gate.name == name)

    def _channels(self, name: str, channels: int) -> np.ndarray:
        """The open channels, ascending."""
        if not name:
            return np.arange(channels)
        return np.flatnonzero(np.repeat(self.masks[name].ravel(), self._gate(name).group)[:channels])

    def _places(self, name: str, size: tuple[int, int]) -> np.ndarray:
        return open_places(self.masks[name][0], size) if name else np.arange(size[0] * size[1])

    def job(self, slots: Slots, resting: int = 0, seed: int = 1) -> Job:
        """What to do for it, when the lists of its channel gates are in `slots`, but for those decided just before."""
        step = self.step
        number = registers()
        memory, places = self._memory()
        tiles = self.masks[step.positions][0].shape if step.positions else (1, 1)
        read = self.masks[step.read_positions][0].shape if step.read_positions else (1, 1)
        in_slot = slots.take(step.inputs, step.outputs) if step.inputs else _SLOTS[0]
        out_slot = slots.take(step.outputs, step.inputs) if step.outputs else _SLOTS[1]
        values = {
            **self._values(places),
            "FLAGS": sum(1 << number[name] for name, set_ in self._flags().items() if set_),
            "POSITION_SLOT": _POSITIONS, "READ_SLOT": _READ, "IN_SLOT": in_slot, "OUT_SLOT": out_slot,
            "IN_GROUP": self._gate(step.inputs).group if step.inputs else 1,
            "OUT_GROUP": self._gate(step.outputs).group if step.outputs else 1,
            "IN_UNITS": self.masks[step.inputs].size if step.inputs else 1,
            "OUT_UNITS": self.masks[step.outputs].size if step.outputs else 1,
            "TILES": tiles[0] * tiles[1], "TILE_COLUMNS": tiles[1], "TILE_INVERSE": -(-(1 << 20) // tiles[1]),
            "READ_TILES": read[0] * read[1], "READ_TILE_COLUMNS": read[1],
            "READ_TILE_INVERSE": -(-(1 << 20) // read[1]),
        }  # fmt: skip
        writes = [(_DESCRIPTOR, number[name], int(value) & 0xFFFFFFFF) for name, value in values.items()]
        writes += self._mask(_POSITIONS, self.masks[step.positions] if step.positions else np.ones(1))
        writes += self._mask(_READ, self.masks[step.read_positions] if step.read_positions else np.ones(1))
        for gate, slot in ((step.inputs, in_slot), (step.outputs, out_slot)):
            if gate in self.decided:
                writes += self._mask(slot, self.masks[gate])
        sides = zip((*tiles, *read), (*step.out, *step.source), strict=True)
        for begin, (count, size) in enumerate(sides):
            edges = bounds(count, size).tolist()
            writes += [(_BOUNDS, begin * _BOUNDS_EACH + i, edge) for i, edge in enumerate(edges)]
        return Job(writes + self._scales(), memory, self._result(places["Y_BASE"]), resting, seed)

    def _flags(self) -> dict[str, bool]:
        """By name."""
        step, op = self.step, self.op
        decided = bool(self.decided.intersection(step.after))
        return {
            "GATED_POSITIONS": bool(step.positions),
            "GATED_READ": bool(step.read_positions),
            "GATED_INPUTS": bool(step.inputs),
            "GATED_OUTPUTS": bool(step.outputs),
            "LIST_INPUTS": step.inputs in self.decided,
            "LIST_OUTPUTS": step.outputs in self.decided,
            "SIGNED_INPUT": self.program.value(op.inputs[0]).element is Element.INT8,
            "SIGNED_ADDED": bool(step.added) and self.program.value(op.inputs[-1]).element is Element.INT8,
            "ADDED": bool(step.added),
            "RAW": self.raw,
            "COMPACT_INPUT": self.compact_input,
            "COMPACT_OUTPUT": self.compact,
            "WHOLE_OUTPUT": bool(step.added) and not step.in_place,
            "INDEXED": bool(step.after),
            "DECIDED": decided,
            "LOADED": not self.first and not decided,
        }

    def _values(self, places: Mapping[str, int]) -> dict[str, int]:
        """Registers that neither masks nor flags are in."""
        step, op = self.step, self.op
        (out_height, out_width), (in_height, in_width) = step.out, step.source
        return {
            "IN_HEIGHT": in_height, "IN_WIDTH": in_width, "OUT_HEIGHT": out_height, "OUT_WIDTH": out_width,
            "KERNEL_HEIGHT": step.kernel[0], "KERNEL_WIDTH": step.kernel[1],
            "STRIDE_DOWN": step.stride[0], "STRIDE_RIGHT": step.stride[1],
            "PADDING_TOP": step.padding[0], "PADDING_LEFT": step.padding[1],
            "DILATION_DOWN": step.dilation[0], "DILATION_RIGHT": step.dilation[1],
            "IN_CHANNELS": step.in_channels, "OUT_CHANNELS": step.out_channels,
            "X_STRIDE": stride(step.in_channels), "W_STRIDE": stride(step.taps * step.in_channels),
            "A_STRIDE": stride(step.out_channels), "Y_STRIDE": stride(step.out_channels), **places,
            "LOW": getattr(op, "low", 0), "HIGH": getattr(op, "high", 0),
            "ADD_MULTIPLIER": getattr(op, "addend", (0, 1))[0], "ADD_SHIFT": getattr(op, "addend", (0, 1))[1],
            "PLANES": in_height * in_width * -(-step.in_channels // self.rows),
        }  # fmt: skip

    def _mask(self, slot: int, mask: np.ndarray) -> list[tuple[int, int, int]]:
        return mask_writes(slot, mask, self.index_bits, self.mask_words)

    def _scales(self) -> list[tuple[int, int, int]]:
        """The host's writes of what follows the sums."""
        arrays, zeros = self.program.arrays, np.zeros(self.step.out_channels, np.int64)
        op = self.op
        assert isinstance(op, Conv)
        bias = arrays[op.bias] if op.bias else zeros
        multiplier, shift = zeros, zeros + 1
        if isinstance(op, IntegerConv):
            multiplier, shift = arrays[op.multiplier], arrays[op.shift]
        return [(SCALES, channel, word) for channel, word in enumerate(scale_words(bias, multiplier, shift))]

    def _weights(self) -> dict[str, np.ndarray]:
        """Bytes by the register that says where they begin."""
        return {"W_BASE": weight_bytes(self.program.arrays[self.op.weight])}

    def _memory(self) -> tuple[np.ndarray, dict[str, int]]:
        """The memory, and where things begin in it."""
        step = self.step
        parts = {
            "X_BASE": self._map(self.x, self.compact_input, step.inputs, step.read_positions, step.source),
            **self._weights(),
            "A_BASE": _rows(_flat(self.added)) if self.added is not None else np.zeros(0, np.uint8),
        }
        if self.compact:
            each = 4 if self.raw else 1
            parts["Y_BASE"] = np.zeros(each * step.out_channels * step.area, np.uint8)
        elif step.in_place:
            parts["Y_BASE"] = parts["A_BASE"]  # what is closed stays as it is
        else:
            parts["Y_BASE"] = np.zeros(step.area * stride(step.out_channels), np.uint8)
        memory, begin = [], {}
        size = 0
        for name, part in parts.items():
            begin[name] = size
            padded = np.pad(part, (0, -len(part) % 64))
            memory.append(padded)
            size += len(padded)
        return np.concatenate(memory), begin

    def _map(self, x: np.ndarray, compact: bool, channels: str, positions: str, size: tuple[int, int]) -> np.ndarray:
        if not compact:
            return _rows(_flat(x))
        open_ = _flat(x)[self._places(positions, size)][:, self._channels(channels, len(x))]
        return np.ascontiguousarray(open_).ravel()

    def _result(self, begin: int) -> tuple[int, int]:
        step = self.step
        if not self.compact:
            return begin, step.area * stride(step.out_channels)
        return begin, (4 if self.raw else 1) * step.area * step.out_channels

    def written(self, answer: Answer) -> np.ndarray:
        """What the accelerator wrote, as the program has it: [channels, height, width]."""
        step = self.step
        out = self.program.value(self.op.output)
        if not self.compact:
            flat = answer.result.reshape(step.area, -1)[:, : step.out_channels]
            return flat.view(np.dtype(out.element.value)).T.reshape(out.shape)
        kind = np.int32 if self.raw else np.dtype(out.element.value)
        places = self._places(step.positions, step.out)
        channels = self._channels(step.outputs, step.out_channels)
        found = np.zeros((step.area, step.out_channels), kind)
        open_ = answer.result.view(kind)[: len(places) * len(channels)].reshape(len(places), len(channels))
        found[np.ix_(places, channels)] = open_
        result = found.T.reshape(out.shape)
        if isinstance(self.op, IntegerConvToFloat):
            scale = self.program.arrays[self.op.scale]
            return result.astype(np.float32) * scale[:, None, None]
        return result


def listing(gate: Gate, mask: np.ndarray, slots: Slots, beside: str, index_bits: int, mask_words: int) -> Job:
    """Lists the open units of a gate that was decided earlier, while something else is computed."""
    number, slot = registers(), slots.take(gate.name, beside)
    flags = sum(1 << number[name] for name in ("LIST_OUTPUTS", "LIST_ONLY", "INDEXED"))
    values = dict.fromkeys(("IN_HEIGHT", "IN_WIDTH", "OUT_HEIGHT", "OUT_WIDTH", "OUT_CHANNELS"), 1)
    values |= {"FLAGS": flags, "OUT_SLOT": slot, "OUT_UNITS": mask.size}
    writes = [(_DESCRIPTOR, number[name], value) for name, value in values.items()]
    return Job([*writes, *mask_writes(slot, mask, index_bits, mask_words)], np.zeros(0, np.uint8), (0, 0))


def mask_writes(slot: int, mask: np.ndarray, index_bits: int, mask_words: int) -> list[tuple[int, int, int]]:
    """The host's writes of a mask."""
    return [(_MASKS, slot * mask_words + i, word) for i, word in enumerate(words(mask, index_bits))]


def scale_words(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> list[int]:
    """Of each channel, a bias of 32 bits, a multiplier of 16 and a shift of 6 in one word."""
    words = (
        bias.astype(np.int64) & 0xFFFFFFFF | (multiplier.astype(np.int64) & 0xFFFF) << 32 | shift.astype(np.int64) << 48
    )
    return [int(word) for word in words]


def weight_bytes(weight: np.ndarray) -> np.ndarray:
    """Weights [out, in, height, width], output channel by output channel, each padded to its stride."""
    return _rows(weight.astype(np.int8).view(np.uint8).reshape(len(weight), -1))


def _flat(x: np.ndarray) -> np.ndarray:
    """A map [channels, height, width] position by position, as bytes."""
    return np.ascontiguousarray(x.reshape(len(x), -1).T).view(np.uint8)


def _rows(rows: np.ndarray) -> np.ndarray:
    """Rows, each padded to its stride."""
    return np.pad(rows, ((0, 0), (0, stride(rows.shape[1]) - rows.shape[1]))).ravel()
