"""A program in the making: operations are appended one by one, simple and unfused."""

import hashlib
import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from convgate.engine.outputs import Rows
from convgate.engine.program import Gate, Operation, Program, Value, reference_fields, references

__all__ = ["Context", "Draft", "Expanded", "GateSymbol", "Rest", "Rowed", "Symbol", "Unsupported"]


_WORTH_SHARING = 4096
# Bytes of an array.


class Unsupported(Exception):  # noqa: N818 -- not an error of the user's: the caller decides what it means
    """Something that has no native form; the message says what."""


@dataclass(eq=False)
class Symbol:
    """A tensor of the network, as the value of the program that holds it.

    `shape` is the tensor's without the batch: (C, H, W), or (C,) for a vector. A view keeps its value, whose elements
    it has in the same order under another shape: (C * H * W,) when it is flattened, (groups, C / groups, H, W) when its
    channels are cut. `padding` (top, left, bottom, right) are zeros still to be put around it by its reader.
    A map whose channels come `last` in PyTorch, [N, H, W, C], keeps the shape (C, H, W).
    """

    value: str
    shape: tuple[int, ...]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    last: bool = False


@dataclass(frozen=True, eq=False)
class Expanded:
    """One element per channel, spread over a map of the shape `over`; never written out, sums and products read it."""

    vector: Symbol
    over: tuple[int, ...]

    @property
    def value(self) -> str:
        """The value that it reads."""
        return self.vector.value


@dataclass(frozen=True, eq=False)
class Rowed:
    """Maps as rows, one after another; see `convgate.engine.outputs.Rows`. Never written out: callers get them so.

    `shape` is the tensor's without the batch: (rows, of), (of, rows) if `across`, or (H, W, A, of) of a single map.
    """

    maps: tuple[Symbol, ...]
    of: int
    shape: tuple[int, ...]
    across: bool = False


@dataclass(frozen=True)
class GateSymbol:
    """The result of a gate, or its mask."""

    gate: str


@dataclass(frozen=True)
class Rest:
    """What partial sums lack: a convolution of the value `reads`, as `convgate.engine.program.Complete` has it."""

    reads: str
    weight: str
    parts: int


@dataclass
class Draft:
    """Values, gates, arrays and operations so far.

    `views` are pairs of values that share memory in PyTorch, though the operations between them copy. `rests` maps
    partial sums to what they lack.
    """

    values: dict[str, Value] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    views: list[tuple[str, str]] = field(default_factory=list)
    rests: dict[str, Rest] = field(default_factory=dict)

    def new(self, hint: str, shape: tuple[int, ...]) -> Symbol:
        """A value of the tensor shape [C, H, W] or [C] that no operation writes yet."""
        name, number = hint, 1
        while name in self.values:
            number += 1
            name = f"{hint}#{number}"
        channels, height, width = shape if len(shape) == 3 else (*shape, 1, 1)
        self.values[name] = Value(name, channels, height, width)
        return Symbol(name, shape)

    def array(self, hint: str, data: Tensor) -> str:
        """Store a tensor as float32; the name it got."""
        name, number = hint, 1
        while name in self.arrays:
            number += 1
            name = f"{hint}#{number}"
        # A copy: the program stays what it is when the network learns on.
        self.arrays[name] = np.array(data.detach().to("cpu", torch.float32).numpy(), order="C")
        return name

    def emit(self, operation: Operation) -> None:
        """Append an operation."""
        self.operations.append(operation)

    def value_of(self, symbol: Any) -> Value:
        """The symbol's value, as [C, H, W] or [C]; raises `Unsupported` for another view, or for pending padding."""
        value = self.plain(symbol)
        if symbol.shape != value.shape and (*symbol.shape, 1, 1) != value.shape:
            raise Unsupported(f"a map {list(value.shape)} is read in the shape {list(symbol.shape)}")
        return value

    def view(self, symbol: Any, shape: tuple[int, ...]) -> Symbol:
        """The same elements in another shape (without the batch)."""
        value = self.plain(symbol)
        if math.prod(shape) != math.prod(value.shape) or (len(shape) == 3 and shape != value.shape):
            raise Unsupported(f"a map {list(value.shape)} in the shape {list(shape)}")
        return Symbol(symbol.value, shape)

    def plain(self, symbol: Any) -> Value:
        """The symbol's value, for a tensor of any shape; raises `Unsupported` where there is none."""
        if not isinstance(symbol, Symbol):
            raise Unsupported(f"an argument that is not a feature map ({type(symbol).__name__})")
        if symbol.last:
            raise Unsupported("a map whose channels come last")
        if any(symbol.padding):
            raise Unsupported("a padded feature map is read by something else than a convolution")
        return self.values[symbol.value]

    def snapshot(self) -> "Draft":
        """A copy to try something on."""
        return Draft(**{f.name: copy(getattr(self, f.name)) for f in fields(self)})

    def adopt(self, other: "Draft") -> None:
        """Become what was tried."""
        for f in fields(self):
            setattr(self, f.name, getattr(other, f.name))

    def program(
        self, inputs: tuple[str, ...], outputs: list[Symbol | str], returns: Any, layers: tuple[str, ...]
    ) -> Program:
        """The finished program, with the values and arrays that its operations use; outputs by name are PyTorch's."""
        self._keep_arrays_once()
        own = [output for output in outputs if isinstance(output, Symbol)]
        foreign = [output for output in outputs if isinstance(output, str)]
        used = {name for operation in self.operations for name in references(operation, "value")}
        used |= {*inputs, *(symbol.value for symbol in own)}
        names = {name for operation in self.operations for name in references(operation, "array")}
        numbers = {
            place: (own.index(o) if isinstance(o, Symbol) else len(own) + foreign.index(o))
            for place, o in enumerate(outputs)
        }
        return Program(
            values=tuple(value for name, value in self.values.items() if name in used),
            gates=tuple(self.gates.values()),
            operations=tuple(self.operations),
            inputs=inputs,
            outputs=tuple(symbol.value for symbol in own),
            arrays={name: array for name, array in self.arrays.items() if name in names},
            layers=layers,
            vectors=tuple(dict.fromkeys(symbol.value for symbol in own if len(symbol.shape) == 1)),
            foreign=tuple(foreign),
            returns=_numbered(returns, numbers),
        )

    def _keep_arrays_once(self) -> None:
        """A layer that is called several times has its weights once."""
        first: dict[bytes, str] = {}
        names = {}
        for name, array in self.arrays.items():
            if array.nbytes >= _WORTH_SHARING:
                digest = hashlib.sha1(repr(array.shape).encode(), usedforsecurity=False)
                digest.update(array.data)
                names[name] = first.setdefault(digest.digest(), name)
        for number, operation in enumerate(self.operations):
            own = [name for name, what in reference_fields(type(operation)).items() if what == "array"]
            told = {name: getattr(operation, name) for name in own}
            self.update(number, **{field: names.get(name, name) for field, name in told.items()})

    def update(self, number: int, **changes: Any) -> None:
        """Replace fields of an operation."""
        self.operations[number] = replace(self.operations[number], **changes)

    def rename(self, names: Mapping[str, str]) -> None:
        """Give values other names."""
        self.values = {names.get(n, n): replace(v, name=names.get(n, n)) for n, v in self.values.items()}
        for number, operation in enumerate(self.operations):
            inputs = tuple(names.get(name, name) for name in operation.inputs)
            self.update(number, inputs=inputs, output=names.get(operation.output, operation.output))

    def readers(self) -> Mapping[str, list[int]]:
        """Value -> the numbers of the operations that read it."""
        found: dict[str, list[int]] = {}
        for number, operation in enumerate(self.operations):
            for name in operation.inputs:
                found.setdefault(name, []).append(number)
        return found


class Context(Protocol):
    """What a handler may use: the draft, and the name of the call under way."""

    draft: Draft

    @property
    def name(self) -> str: ...

    @property
    def external(self) -> bool:
        """Whether PyTorch computes what has no native form."""


def _numbered(returns: Any, numbers: Mapping[int, int]) -> Any:
    if isinstance(returns, tuple):
        return tuple(_numbered(part, numbers) for part in returns)
    if isinstance(returns, dict):
        return {key: _numbered(part, numbers) for key, part in returns.items()}
    if isinstance(returns, Rows):
        return replace(returns, outputs=tuple(numbers[place] for place in returns.outputs))
    return None if returns is None else numbers[returns]
