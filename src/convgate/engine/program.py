"""A program: what the engine is to compute, as plain immutable data.

Values are float32 feature maps of one sample, [channels, height, width]; vectors are 1x1 maps. Operations run in order,
each writes one value or decides one gate. Nothing here says how: layouts, fusing into kernels and threads are the
runtime's business. This module needs neither torch nor the rest of convgate.

What a field of an operation names (a value, an array, a gate, a layer) is said once, by its type: `ValueName`,
`ArrayName`, `GateName`, `LayerName`. `references` reads it off, for whoever checks, numbers, cuts or prints a program.
"""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated, Any

import numpy as np

from convgate.preparation import Preparation

__all__ = [
    "ACTIVATIONS",
    "NO_ACTIVATION",
    "Activate",
    "Activation",
    "Add",
    "Affine",
    "Arithmetic",
    "ArrayName",
    "Complete",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Decide",
    "External",
    "Gate",
    "GateKind",
    "GateName",
    "GroupNorm",
    "Interpolate",
    "LayerName",
    "LayerNorm",
    "Mask",
    "MaskName",
    "Multiply",
    "Operation",
    "OverChannels",
    "PRelu",
    "Pad",
    "Pick",
    "PixelShuffle",
    "PixelUnshuffle",
    "Pool",
    "PoolToGrid",
    "Program",
    "Reshape",
    "Slice",
    "Softmax",
    "Value",
    "ValueName",
    "decides",
    "dense_macs",
    "label",
    "reads",
    "reference_fields",
    "references",
]

ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "relu": (),
    "relu6": (),
    "hardswish": (),
    "silu": (),
    "sigmoid": (),
    "hardsigmoid": (),
    "leaky_relu": ("slope",),
    "elu": ("alpha", "scale", "input_scale"),
    "gelu": (),
    "gelu_tanh": (),
    "mish": (),
    "tanh": (),
    "softplus": ("beta", "threshold"),
    "clamp": ("low", "high"),
}
"""Functions of single elements, with the names of their parameters; `none` is the identity.

`elu` is scale * (x if x > 0 else alpha * (exp(input_scale * x) - 1)), so that it is CELU and SELU, too; `gelu_tanh` is
GELU's approximation by tanh; `softplus` and `leaky_relu` are as PyTorch has them; `clamp` is min(max(x, low), high),
where a limit may be infinite.
"""


@dataclass(frozen=True)
class Activation:
    """A function of single elements: one of `ACTIVATIONS`, with its parameters in their order.

    >>> Activation("leaky_relu", (0.1,)).keeps_zero
    True
    """

    name: str = "none"
    parameters: tuple[float, ...] = ()

    @property
    def keeps_zero(self) -> bool:
        """Whether zero stays zero, so that what a mask zeroed may go through it."""
        if self.name == "clamp":
            return self.parameters[0] <= 0 <= self.parameters[1]
        return self.name not in ("sigmoid", "hardsigmoid", "softplus")

    def __bool__(self) -> bool:
        return self.name != "none"

    def __str__(self) -> str:
        named = zip(ACTIVATIONS.get(self.name, ()), self.parameters, strict=False)
        return self.name + "".join(f" {name} {value:g}" for name, value in named)


NO_ACTIVATION = Activation()
"""The identity."""

ValueName = Annotated[str, "value"]
"""The name of a value."""

ArrayName = Annotated[str, "array"]
"""The name of an array, or "" for none."""

GateName = Annotated[str, "gate"]
"""The name of a gate, or "" for none."""

MaskName = Annotated[str, "mask"]
"""The name of a gate of which only the mask's size is meant, or "" for none."""

LayerName = Annotated[str, "layer"]
"""A line of the ledger."""


@dataclass(frozen=True)
class Value:
    """A feature map of one sample."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width


class GateKind(StrEnum):
    """What an entry of a gate's mask stands for; see `Gate`. The counterpart of `convgate.gating.GateKind`."""

    SPATIAL = "spatial"
    CHANNEL = "channel"
    ACTIVATION = "activation"


@dataclass(frozen=True)
class Gate:
    """A binary decision about parts of a value; `shape` is its mask's, [units, rows, columns].

    By `kind`:

    - `spatial`, [1, rows, columns]: per tile. A tile mask spreads over a value's positions by nearest neighbour
      (position y reads row floor(y * rows / height)).
    - `channel`, [units, 1, 1]: per unit of channels. Unit i holds the `group` channels from i * group on, the last may
      be smaller.
    - `activation`, [units, height, width] of the value: per unit of channels at each position.

    Where the mask's size follows that of a map, `on` names it: of an activation gate, the mask is as large; a tile of a
    spatial gate is `sides` (height, width) positions large, or the whole map where these are 0.
    """

    name: str
    kind: GateKind
    shape: tuple[int, int, int]
    group: int = 1
    sides: tuple[int, int] = (0, 0)
    on: str = ""

    @property
    def offset_shape(self) -> tuple[int, int, int]:
        """The shape of the offset that its decision adds to the logits."""
        return (self.shape[0], 1, 1) if self.kind == GateKind.ACTIVATION else self.shape

    @property
    def logit_channels(self) -> int:
        """How many channels the logits have that are decided on: those of an activation gate are averaged by group."""
        return self.shape[0] * (self.group if self.kind == GateKind.ACTIVATION else 1)


@dataclass(frozen=True)
class Operation:
    """One step: reads `inputs`, writes `output`."""

    inputs: tuple[ValueName, ...]
    output: ValueName


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

    weight: ArrayName
    bias: ArrayName
    layer: LayerName
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    activation: Activation = NO_ACTIVATION
    positions: GateName = ""
    in_channels: GateName = ""
    out_channels: GateName = ""


@dataclass(frozen=True)
class Complete(Operation):
    """Partial sums, inputs[1], to which a convolution of inputs[0] is added where an activation gate is open.

    activation((sum + convolution(inputs[0])) * open_scale + open_shift + inputs[2]) where `gate` is open, and
    activation(sum * scale + shift + inputs[2]) elsewhere; a third input is optional. The four name arrays [out], or
    nothing: a scale of 1, a shift of 0.

    Channels are cut into `parts` chunks, and chunk i of the outputs reads all chunks of the inputs but the i-th, of
    which its partial sums are; with 1 part, all inputs. `weight` names an array [out, read, kernel height, kernel
    width], input channels ascending. The geometry and `layer` are as a `Conv`'s.
    """

    weight: ArrayName
    layer: LayerName
    gate: GateName
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    parts: int = 1
    activation: Activation = NO_ACTIVATION
    scale: ArrayName = ""
    shift: ArrayName = ""
    open_scale: ArrayName = ""
    open_shift: ArrayName = ""


@dataclass(frozen=True)
class ConvTranspose(Operation):
    """activation(transposed convolution(inputs[0]) + bias), as `torch.nn.functional.conv_transpose2d`.

    `weight` names an array [in, out / groups, kernel height, kernel width], `bias` one [out] or nothing (""). Every
    input position meets every element of the kernel; those are its MACs, whatever falls into the padding.
    """

    weight: ArrayName
    bias: ArrayName
    layer: LayerName
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    output_padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True)
class Pad(Operation):
    """inputs[0] with `padding` (top, left, bottom, right) around it, as `torch.nn.functional.pad`.

    By `mode`: "constant" (`value`; negative padding crops), "reflect", "replicate" or "circular".
    """

    padding: tuple[int, int, int, int]
    mode: str = "constant"
    value: float = 0.0


@dataclass(frozen=True)
class PixelShuffle(Operation):
    """Groups of factor * factor channels as squares of positions: `torch.nn.functional.pixel_shuffle`."""

    factor: int


@dataclass(frozen=True)
class PixelUnshuffle(Operation):
    """Squares of factor * factor positions as channels: `torch.nn.functional.pixel_unshuffle`."""

    factor: int


@dataclass(frozen=True)
class Reshape(Operation):
    """The elements of inputs[0], [channels, height, width], in their order, as a map of the output's shape."""


@dataclass(frozen=True)
class GroupNorm(Operation):
    """Each of `groups` groups of channels, at all positions, less its mean, over its deviation; then scale and shift.

    The deviation is sqrt(variance + epsilon); `scale` and `shift` name arrays [channels], or nothing.
    """

    scale: ArrayName
    shift: ArrayName
    epsilon: float
    groups: int = 1


@dataclass(frozen=True)
class LayerNorm(Operation):
    """The channels of each position less their mean, over their deviation; then scale and shift, as in `GroupNorm`."""

    scale: ArrayName
    shift: ArrayName
    epsilon: float


@dataclass(frozen=True)
class Softmax(Operation):
    """exp(x) over the sum of exp(x) of all channels at the same position."""


@dataclass(frozen=True)
class OverChannels(Operation):
    """The mean, or the `maximum`, of the channels at each position."""

    maximum: bool = False


@dataclass(frozen=True)
class Pool(Operation):
    """Maximum or average (`kind`) over windows; windows end at the padded border, and past it where ceil_mode does.

    An average divides by the number of elements in the window: with those of the padding if `count_padding`, else
    without; those past the padded border never count. `ceil` says that ceil_mode does.
    """

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    count_padding: bool = True
    ceil: bool = False


@dataclass(frozen=True)
class PoolToGrid(Operation):
    """Average, or `maximum`, over the output's grid of cells.

    Cell i spans floor(i * size / cells) to ceil((i + 1) * size / cells). `grid` is
    its number of rows and columns, 0 for as many as the input has; where `mask` is named, they are those of that gate's
    mask.
    """

    maximum: bool = False
    grid: tuple[int, int] = (0, 0)
    mask: MaskName = ""


@dataclass(frozen=True)
class Activate(Operation):
    """An activation of each element."""

    activation: Activation


@dataclass(frozen=True)
class PRelu(Operation):
    """x if x > 0 else slope * x, with a slope for each channel: `weight` names an array [channels]."""

    weight: ArrayName


@dataclass(frozen=True)
class Affine(Operation):
    """activation(inputs[0] * scale + shift) per channel: a norm that follows no convolution. Arrays [channels]."""

    scale: ArrayName
    shift: ArrayName
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True)
class Add(Operation):
    """activation(inputs[0] + inputs[1]).

    Either may have one channel, one row or one column where the output has several; it is then the same in all of them.
    """

    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True)
class Multiply(Operation):
    """inputs[0] * inputs[1], spread as in `Add`."""


@dataclass(frozen=True)
class Arithmetic(Operation):
    """inputs[0] / inputs[1] (`divide`), or their `maximum` or `minimum`, spread as in `Add`."""

    arithmetic: str


@dataclass(frozen=True)
class Constant(Operation):
    """The array named `weight`, [channels, height, width]. It has no inputs."""

    weight: ArrayName


@dataclass(frozen=True)
class Interpolate(Operation):
    """inputs[0] in another size, as PyTorch's `interpolate` with `mode` "nearest", "nearest-exact" or "bilinear".

    The new size is that of inputs[1], of which nothing else is read, if there is one; else `size` (rows, columns), if
    it is not (0, 0); else each size times its scale in `scales`, rounded down. Scales other than 0 also say where each
    position reads, unless `align_corners`; else the ratio of the sizes does.
    """

    mode: str = "nearest"
    align_corners: bool = False
    scales: tuple[float, float] = (0.0, 0.0)
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Concat(Operation):
    """The inputs' channels one after another."""


@dataclass(frozen=True)
class Slice(Operation):
    """Channels `begin` up to (without) begin + the output's channels; those that the input lacks read as zeros."""

    begin: int


@dataclass(frozen=True)
class Pick(Operation):
    """The input's channels of these numbers, in this order."""

    channels: tuple[int, ...]


@dataclass(frozen=True)
class Decide(Operation):
    """Decides the gate named by `output`: open where a logit is >= 0, or > 0 if `strict`, and where it is NaN.

    The logits are inputs[0] + offset, both of the gate's shape; `offset` names an array. Of an activation gate, a
    unit's logit is the mean over its channels of inputs[0] * scale + shift, plus the offset [units, 1, 1]; `scale` and
    `shift` name arrays [channels], or nothing.
    """

    output: GateName
    offset: ArrayName
    scale: ArrayName = ""
    shift: ArrayName = ""
    strict: bool = False


@dataclass(frozen=True)
class Mask(Operation):
    """inputs[0] with zeros where `gate` is closed."""

    gate: GateName


@dataclass(frozen=True)
class External(Operation):
    """The node `target` of the network's graph, which PyTorch computes; a program with one cannot be saved.

    It reads the values `inputs` and the masks of the gates `gates`, decides the gates `decides`, and writes `output`,
    or nothing ("") where no other kind of operation reads its result.
    """

    target: str
    gates: tuple[GateName, ...] = ()
    decides: tuple[GateName, ...] = ()


_NAMES = ("value", "array", "gate", "mask", "layer")


def reference_fields(kind: type[Operation]) -> Mapping[str, str]:
    """Field -> what it names ("value", "array", "gate", "mask" or "layer"), of those fields that name anything.

    >>> reference_fields(Mask)
    {'inputs': 'value', 'output': 'value', 'gate': 'gate'}
    """
    kept: Any = kind  # a frozen dataclass's hash is not, for mypy, that of its class
    return _reference_fields(kept)


@cache
def _reference_fields(kind: Any) -> Mapping[str, str]:
    found = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if typing.get_origin(hint) is tuple:
            hint = typing.get_args(hint)[0]
        what = getattr(hint, "__metadata__", ("",))[0]
        if what in _NAMES:
            found[name] = what
    return found


def references(operation: Operation, what: str) -> tuple[str, ...]:
    """The values, arrays, gates or layers (`what`: in the singular) that an operation names.

    >>> references(Mask(("x",), "y", "first"), "gate")
    ('first',)
    """
    names: list[str] = []
    for name, kind in reference_fields(type(operation)).items():
        if kind == what:
            entry: Any = getattr(operation, name)
            names += [entry] if isinstance(entry, str) else entry
    return tuple(name for name in names if name)


def reads(operation: Operation, what: str) -> tuple[str, ...]:
    """As `references`, without what it writes or decides."""
    own = {operation.output, *(operation.decides if isinstance(operation, External) else ())}
    return tuple(name for name in references(operation, what) if name not in own)


def label(operation: Operation) -> str:
    """A name of one operation of a program: what it writes, or PyTorch's name for it."""
    return operation.target if isinstance(operation, External) else operation.output


def dense_macs(program: "Program", operation: Operation) -> int:
    """The MACs of an operation when every gate is open."""
    if isinstance(operation, ConvTranspose):
        read = program.value(operation.inputs[0])
        return read.height * read.width * int(program.arrays[operation.weight].size)
    if not isinstance(operation, Conv | Complete):
        return 0
    out = program.value(operation.output)
    return out.height * out.width * int(program.arrays[operation.weight].size)


def decides(operation: Operation) -> tuple[str, ...]:
    """The gates that an operation decides."""
    if isinstance(operation, Decide):
        return (operation.output,)
    return operation.decides if isinstance(operation, External) else ()


@dataclass(frozen=True, eq=False)
class Program:
    """What a network computes: inputs, operations in order, outputs; the arrays that they name are float32.

    `layers` names the lines of the ledger, in its order; `vectors` those 1x1 outputs that callers get as [N, channels].
    `foreign` names nodes whose results PyTorch returns; they are numbered after `outputs`. `returns` is how callers get
    all of these: the number of an output, None, a tuple or a dict of such; where it is None, one array or a tuple.
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
