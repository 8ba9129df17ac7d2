"""A trace: what the gates of a program decided for each of N images, one bit for each entry of a mask."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from convgate.engine.container import read_container
from convgate.engine.program import GateKind, Program
from convgate.engine.sizes import at
from convgate.errors import CheckpointError, InputError
from convgate.files import replacing
from convgate.hardware.digest import add_arrays, digest, fits

__all__ = ["Trace", "TracedGate", "joined", "load_trace", "open_trace", "pack"]

_FORMAT = "convgate-trace"
_VERSION = 2
"""The format's version: in 2, the program's digest covers wiring and geometry. Files of version 1 are read, too."""
_MOST = 1 << 31
"""Entries of one gate's mask, and images: more is a damaged file."""


@dataclass(frozen=True)
class TracedGate:
    """One gate of a trace; `shape` [units, rows, columns] is its mask's."""

    name: str
    kind: GateKind
    shape: tuple[int, int, int]

    @property
    def entries(self) -> int:
        """Decisions per image."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Trace:
    """The decisions of `images` images. Made by `convgate.hardware.record`, `load_trace` or `Trace.of`.

    `packed` has, by gate, uint8 [images, ceil(entries / 8)]: a mask's entries in C order, the first in the lowest bit,
    and zeros after the last. `program` is the digest (`convgate.hardware.digest`) of the program whose gates decided,
    `size` the images' height and width. `labels`, if they are known, are int64 [images].
    """

    program: str
    size: tuple[int, int]
    gates: tuple[TracedGate, ...]
    packed: Mapping[str, np.ndarray] = field(repr=False)
    images: int
    labels: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def of(cls, program: Program, masks: Mapping[str, np.ndarray], *, tied_to: str = "") -> "Trace":
        """The trace of masks of 0 and 1, [N, units, rows, columns] by gate, for images of the program's size.

        `tied_to` is the program's digest, if it is known already.
        """
        first = program.value(program.inputs[0])
        gates = tuple(TracedGate(gate.name, gate.kind, gate.shape) for gate in program.gates)
        counts = {len(mask) for mask in masks.values()}
        if set(masks) != {gate.name for gate in gates} or len(counts) != 1:
            raise InputError(
                f"masks of the gates {', '.join(sorted(masks)) or 'none'} for {sorted(counts)} images; a trace needs "
                f"those of all gates of the program, for the same images: {', '.join(gate.name for gate in gates)}"
            )
        packed = {}
        for gate in gates:
            mask = masks[gate.name]
            if mask.shape[1:] != gate.shape or not bool(((mask == 0) | (mask == 1)).all()):
                raise InputError(
                    f"the mask of gate '{gate.name}' has shape {list(mask.shape)}; it is of zeros and ones, "
                    f"[N, {', '.join(map(str, gate.shape))}]"
                )
            packed[gate.name] = pack(mask)
        return cls(tied_to or digest(program), (first.height, first.width), gates, packed, counts.pop())

    @cached_property
    def by_name(self) -> Mapping[str, TracedGate]:
        """The gates by their names."""
        return {gate.name: gate for gate in self.gates}

    def mask(self, name: str, begin: int = 0, end: int | None = None) -> np.ndarray:
        """A gate's mask, uint8 [N, units, rows, columns] of 0 and 1, of the images from `begin` to before `end`."""
        gate = self.by_name[name]
        bits = np.unpackbits(self.packed[name][begin:end], axis=1, count=gate.entries, bitorder="little")
        return bits.reshape(-1, *gate.shape)

    def part(self, begin: int, end: int) -> "Trace":
        """The trace of the images from `begin` to before `end`."""
        packed = {name: bits[begin:end] for name, bits in self.packed.items()}
        labels = None if self.labels is None else self.labels[begin:end]
        return Trace(self.program, self.size, self.gates, packed, len(range(self.images)[begin:end]), labels)

    def check(self, program: Program) -> Program:
        """The program at the size of the trace's images; raises `InputError` if the trace is of another program."""
        if not fits(program, self.program):
            raise InputError(
                "the trace was recorded with another network than this one (their digests differ): record it again "
                "from this .cgm file"
            )
        sized = at(program, *self.size)
        if [(gate.name, gate.kind, gate.shape) for gate in sized.gates] != [
            (gate.name, gate.kind, gate.shape) for gate in self.gates
        ]:
            raise InputError("the trace's gates are not those of the network: record it again from this .cgm file")
        return sized

    def save(self, path: str | PathLike[str]) -> None:
        """Write the trace to `path` (by habit .cgt), complete or not at all."""
        arrays = {f"mask.{name}": np.ascontiguousarray(bits) for name, bits in self.packed.items()}
        if self.labels is not None:
            arrays["labels"] = np.ascontiguousarray(self.labels, dtype=np.int64)
        text = {
            "format": _FORMAT,
            "version": str(_VERSION),
            "program": self.program,
            "images": str(self.images),
            "size": json.dumps(self.size),
            "gates": json.dumps([{"name": g.name, "kind": g.kind, "shape": g.shape} for g in self.gates]),
        }
        text["digest"] = _contents(text, arrays)
        with replacing(Path(path)) as temporary:
            save_file(arrays, temporary, metadata=text)


def pack(mask: np.ndarray) -> np.ndarray:
    """Masks of 0 and 1, [N, ...], as bits: uint8 [N, ceil(entries / 8)]."""
    return np.packbits(mask.reshape(len(mask), -1), axis=1, bitorder="little")


def joined(parts: Iterable["Trace"]) -> Trace:
    """One trace of several of the same program, in their order; labels stay if all have them.

    Raises `InputError` for none, or for those of different programs.
    """
    traces = list(parts)
    if not traces:
        raise InputError("there are no traces to join; give at least one")
    first = traces[0]
    if any((t.program, t.size, t.gates) != (first.program, first.size, first.gates) for t in traces):
        raise InputError("traces of different programs or sizes of images cannot be joined")
    packed = {gate.name: np.concatenate([t.packed[gate.name] for t in traces]) for gate in first.gates}
    known = [t.labels for t in traces if t.labels is not None]
    labels = np.concatenate(known) if len(known) == len(traces) else None
    return Trace(first.program, first.size, first.gates, packed, sum(t.images for t in traces), labels)


def open_trace(program: Program, images: int = 1) -> Trace:
    """A trace in which every gate is open for all images: what the network costs with its gates, saving nothing."""
    return Trace.of(program, {gate.name: np.ones((images, *gate.shape), np.uint8) for gate in program.gates})


def load_trace(path: str | PathLike[str]) -> Trace:
    """Read a trace; raises `CheckpointError` for a file that is damaged, foreign, or of a newer version."""
    path = Path(path)
    text, arrays = read_container(path, "write one with `convgate hardware record`", "not a trace")
    if text.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a trace of decisions; write one with `convgate hardware record`")
    if text.get("version") not in [str(number) for number in range(1, _VERSION + 1)]:
        raise CheckpointError(
            f"{path} is of format {text.get('version')}; this convgate reads formats up to {_VERSION}. Install a newer "
            "convgate"
        )
    own = {key: value for key, value in text.items() if key != "digest"}
    if text.get("digest") != _contents(own, arrays):
        raise CheckpointError(f"{path} is damaged: its contents do not fit its digest; record it again")
    try:
        return _checked(text, arrays)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} holds no trace that can be read: {error}") from None


def _checked(text: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> Trace:
    images = int(text["images"])
    height, width = (_whole(n) for n in json.loads(text["size"]))
    gates = []
    for entry in json.loads(text["gates"]):
        units, rows, columns = (_whole(n) for n in entry["shape"])
        gates.append(TracedGate(str(entry["name"]), GateKind(entry["kind"]), (units, rows, columns)))
    packed = {gate.name: arrays[f"mask.{gate.name}"] for gate in gates}
    labels = arrays.get("labels")
    if not 1 <= images <= _MOST or len(packed) != len(gates) or len(arrays) != len(gates) + (labels is not None):
        raise ValueError("its gates and its masks do not agree")
    if labels is not None and (labels.shape != (images,) or labels.dtype != np.int64):
        raise ValueError("its labels are not one whole number for each image")
    for gate in gates:
        bits = packed[gate.name]
        if gate.entries > _MOST or bits.dtype != np.uint8 or bits.shape != (images, -(-gate.entries // 8)):
            raise ValueError(f"the mask of gate '{gate.name}' has shape {list(bits.shape)}")
        if gate.entries % 8 and bool((bits[:, -1] >> (gate.entries % 8)).any()):
            raise ValueError(f"the mask of gate '{gate.name}' has bits after its last entry")
    return Trace(text["program"], (height, width), tuple(gates), packed, images, labels)


def _whole(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _MOST:
        raise ValueError(f"{number!r} is not a size")
    return number


def _contents(text: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    found = hashlib.sha256(json.dumps(sorted(text.items())).encode())
    add_arrays(found, arrays)
    return found.hexdigest()
