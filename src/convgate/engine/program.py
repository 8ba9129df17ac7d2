"""A program: what the engine is to compute, as plain immutable data.

Values are float32 feature maps of one sample, [channels, height, width]; vectors are 1x1 maps. Operations run in order,
each writes one value or decides one gate. Nothing here says how: layouts, fusing into kernels and threads are the
runtime's business. This module needs neither torch nor the rest of convgate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = [
    "ACTIVATIONS",
    "Activate",
    "Add",
    "Affine",
    "Concat",
    "Conv",
    "Decide",
    "External",
    "Gate",
    "Mask",
    "Multiply",
    "Operation",
    "Pool",
    "PoolToGrid",
    "Program",
    "Slice",
    "Value",
]

ACTIVATIONS = ("none", "relu", "relu6", "hardswish", "silu", "sigmoid", "hardsigmoid")
"""Functions of single elements; `none` is the identity."""


@dataclass(frozen=True)
class Value:
    """A feature map of one sample."""

    name: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Gate:
    """A binary decision per tile (`spatial`: rows x columns) or per channel group (`channel`: units x 1).

    A tile mask spreads over a value's positions by nearest neighbour (position y reads row floor(y * rows / height));
    unit i of a channel gate holds the `group` channels from i * group on, the last may be smaller.
    """

    name: str
    kind: str
    rows: int
    columns: int
    group: int = 1


@dataclass(frozen=True)
class Operation:
    """One step: reads `inputs`, writes `output`."""

    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Conv(Operation):
    """activation(masked(convolution(inputs[0]) + bias) + inputs[1], if there is one).

    `weight` names an array [out, in / groups, kernel height, kernel width], `bias` one [out] or nothing ("").
    `positions`, `in_channels` and `out_channels` name gates ("" for none): outputs at closed positions and in closed
    channels are masked to zero before the second input is added; input channels that are closed hold zeros and need not
    be read.
    An activation of a masked convolution maps zero to zero. `padding` is top, left, bottom, right, with zeros. A linear
    layer is a convolution whose kernel is as large as its input. `layer` is the line of the ledger on which its MACs
    are counted.
    """

    weight: str
    bias: str
    layer: str
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    activation: str = "none"
    positions: str = ""
    in_channels: str = ""
    out_channels: str = ""


@dataclass(frozen=True)
class Pool(Operation):
    """Maximum or average (`kind`) over windows; windows end at the padded border, and past it where ceil_mode does.

    An average divides by the number of elements in the window: with those of the padding if `count_padding`, else
    without; those past the padded border never count.
    """

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    count_padding: bool = True


@dataclass(frozen=True)
class PoolToGrid(Operation):
    """Average over the output's grid of cells: cell i spans floor(i * size / cells) to ceil((i + 1) * size / cells)."""


@dataclass(frozen=True)
class Activate(Operation):
    """An activation of each element."""

    activation: str


@dataclass(frozen=True)
class Affine(Operation):
    """activation(inputs[0] * scale + shift) per channel: a norm that follows no convolution. Arrays [channels]."""

    scale: str
    shift: str
    activation: str = "none"


@dataclass(frozen=True)
class Add(Operation):
    """activation(inputs[0] + inputs[1]); the second may be 1x1 and is then added at every position."""

    activation: str = "none"


@dataclass(frozen=True)
class Multiply(Operation):
    """inputs[0] * inputs[1]; the second may be 1x1 and then scales the channels at every position."""


@dataclass(frozen=True)
class Concat(Operation):
    """The inputs' channels one after another."""


@dataclass(frozen=True)
class Slice(Operation):
    """Channels `begin` up to (without) begin + the output's channels; those that the input lacks read as zeros."""

    begin: int


@dataclass(frozen=True)
class Decide(Operation):
    """Decides the gate named by `output`: open where inputs[0] + offset >= 0; `offset` names an array of its shape.

    The input of a spatial gate is [1, rows, columns], that of a channel gate [units, 1, 1].
    """

    offset: str


@dataclass(frozen=True)
class Mask(Operation):
    """inputs[0] with zeros where `gate` is closed."""

    gate: str


@dataclass(frozen=True)
class External(Operation):
    """Computed outside the runtime, by PyTorch, under the name `target`; such a program cannot be saved."""

    target: str


@dataclass(frozen=True, eq=False)
class Program:
    """What a network computes: inputs, operations in order, outputs; the arrays that they name are float32.

    `layers` names the lines of the ledger, in its order; `vectors` those 1x1 outputs that callers get as [N, channels].
    """

    values: tuple[Value, ...]
    gates: tuple[Gate, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    layers: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()

    def __str__(self) -> str:
        from convgate.engine.describe import describe

        return describe(self)

    def value(self, name: str) -> Value:
        """The value of that name; raises KeyError where there is none."""
        return self._by_name[name]

    def externals(self) -> Iterator[External]:
        """The operations that the native runtime has no form for."""
        return (operation for operation in self.operations if isinstance(operation, External))

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {value.name: value for value in self.values})

    _by_name: Mapping[str, Value] = field(init=False, repr=False)
