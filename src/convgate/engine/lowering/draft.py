"""A program in the making: operations are appended one by one, simple and unfused."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convgate.engine.program import Gate, Operation, Program, Value

__all__ = ["Draft", "GateSymbol", "Symbol", "Unsupported"]


class Unsupported(Exception):  # noqa: N818 -- not an error of the user's: the caller decides what it means
    """Something that has no native form; the message says what."""


@dataclass(eq=False)
class Symbol:
    """A tensor of the network, as the value of the program that holds it.

    `shape` is the tensor's without the batch: (C, H, W), or (C,) for a vector; a flattened map keeps its value and has
    the shape (C * H * W,). `padding` (top, left, bottom, right) are zeros still to be put around it by its reader.
    """

    value: str
    shape: tuple[int, ...]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class GateSymbol:
    """The result of a gate, or its mask."""

    gate: str


@dataclass
class Draft:
    """Values, gates, arrays and operations so far.

    `views` are pairs of values that share memory in PyTorch, though the operations between them copy.
    """

    values: dict[str, Value] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    views: list[tuple[str, str]] = field(default_factory=list)

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
        """The symbol's value, as [C, H, W]; raises `Unsupported` for a flattened map or pending padding."""
        value = self.plain(symbol)
        if math.prod(symbol.shape) != value.channels * value.height * value.width or (
            len(symbol.shape) == 1 and value.height * value.width > 1
        ):
            raise Unsupported("a flattened feature map is read by something else than a linear layer")
        return value

    def plain(self, symbol: Any) -> Value:
        """The symbol's value, whatever shape the tensor has; raises `Unsupported` where there is none."""
        if not isinstance(symbol, Symbol):
            raise Unsupported(f"an argument that is no feature map ({type(symbol).__name__})")
        if any(symbol.padding):
            raise Unsupported("a padded feature map is read by something else than a convolution")
        return self.values[symbol.value]

    def snapshot(self) -> "Draft":
        """A copy to try something on."""
        return Draft(dict(self.values), dict(self.gates), list(self.operations), dict(self.arrays), list(self.views))

    def adopt(self, other: "Draft") -> None:
        """Become what was tried."""
        self.values, self.gates = other.values, other.gates
        self.operations, self.arrays, self.views = other.operations, other.arrays, other.views

    def program(self, inputs: tuple[str, ...], outputs: list[Symbol], layers: tuple[str, ...]) -> Program:
        """The finished program, with the values and arrays that its operations use."""
        used = {name for operation in self.operations for name in (*operation.inputs, operation.output)}
        used |= {*inputs, *(symbol.value for symbol in outputs)}
        names = {getattr(operation, key, "") for operation in self.operations for key in _ARRAYS}
        return Program(
            values=tuple(value for name, value in self.values.items() if name in used),
            gates=tuple(self.gates.values()),
            operations=tuple(self.operations),
            inputs=inputs,
            outputs=tuple(symbol.value for symbol in outputs),
            arrays={name: array for name, array in self.arrays.items() if name in names},
            layers=layers,
            vectors=tuple(dict.fromkeys(symbol.value for symbol in outputs if len(symbol.shape) == 1)),
        )

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


_ARRAYS = ("weight", "bias", "scale", "shift", "offset")
