"""A program, and the MACs of its operations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convgate.engine.program.convolutions import Completing, Conv, ConvTranspose
from convgate.engine.program.deciding import External
from convgate.engine.program.operation import Operation
from convgate.engine.program.values import Gate, Value
from convgate.preparation import Preparation

__all__ = ["Program", "dense_macs"]


@dataclass(frozen=True, eq=False)
class Program:
    """What a network computes: inputs, operations in order, outputs; the arrays that they name.

    Arrays are float32, but for those of operations on integers (`convgate.engine.program.integer`).

    `layers` names the lines of the ledger, in its order; `vectors` those 1x1 outputs that callers get as [N, channels].
    `foreign` names nodes whose results PyTorch returns; they are numbered after `outputs`. `returns` is how callers get
    all of these: the number of an output, `Rows` of outputs, None, a tuple or a dict of these; where it is None,
    one array or a tuple.
    The sizes are those for images of one size; `convgate.engine.sizes.at` derives those for another. `fixed` says why
    that cannot be done, if so. `preparation` says how images are prepared and what the classes are called, where known.
    """

    values: tuple[Value, ...]
    gates: tuple[Gate, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    layers: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    returns: Any = None
    fixed: str = ""
    preparation: Preparation | None = None

    def value(self, name: str) -> Value:
        """The value of that name; raises KeyError where there is none."""
        return self._by_name[name]

    def has(self, name: str) -> bool:
        """Whether there is a value of that name."""
        return name in self._by_name

    def externals(self) -> Iterator[External]:
        """The operations that the native runtime has no form for."""
        return (operation for operation in self.operations if isinstance(operation, External))

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {value.name: value for value in self.values})

    _by_name: Mapping[str, Value] = field(init=False, repr=False)


def dense_macs(program: Program, operation: Operation) -> int:
    """The MACs of an operation when every gate is open."""
    if isinstance(operation, ConvTranspose):
        read = program.value(operation.inputs[0])
        return read.height * read.width * int(program.arrays[operation.weight].size)
    if not isinstance(operation, Conv | Completing):
        return 0
    out = program.value(operation.output)
    return out.height * out.width * int(program.arrays[operation.weight].size)
