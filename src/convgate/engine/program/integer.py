"""Operations on 8-bit integers; `convgate.engine.integer` defines their arithmetic to the bit.

Values of integers (`Value.element`) are written by these and by operations that only move or choose elements, whose
inputs and output then have one element type and one scale: `Mask`, `Concat`, `Slice`, `Pick`, `Reshape`, `Pad` with
zeros, `PixelShuffle`, `PixelUnshuffle`, the maximum of a `Pool`. All other operations read and write float32. Partial
sums are int32: `IntegerConvToSums` writes them, `IntegerDecide` and `IntegerComplete` read them, and nothing else does.

A sum or a value v is brought to the scale of another by a multiplier m and a shift s: (v * m + 2^(s-1)) >> s, computed
exactly. It is the nearest integer to v * m / 2^s, halves rounded up.
"""

from dataclasses import dataclass

from convgate.engine.program.convolutions import Completing, Conv
from convgate.engine.program.deciding import Decide
from convgate.engine.program.operation import ArrayName, MaskName, Operation

__all__ = [
    "Dequantize",
    "IntegerAdd",
    "IntegerComplete",
    "IntegerConv",
    "IntegerConvToFloat",
    "IntegerConvToSums",
    "IntegerDecide",
    "IntegerMean",
    "Lookup",
    "Quantize",
]


@dataclass(frozen=True)
class Quantize(Operation):
    """float32 as integers: inputs[0] * (1 / scale), rounded to the nearest, halves to even, and clamped.

    The element type, with its limits, and the scale are the output's; 1 / scale and the product are rounded to float32.
    What is not a number becomes 0, as no integer says so.
    """


@dataclass(frozen=True)
class Dequantize(Operation):
    """Integers as float32: inputs[0] times its scale, rounded to float32."""


@dataclass(frozen=True)
class IntegerConv(Conv):
    """clamp(masked(brought(convolution(inputs[0]) + bias)) + brought(inputs[1])), of 8-bit integers, to 8 bits.

    As a `Conv`, without an activation; `weight` is int8 in [-127, 127], `bias` int32. The sum of every output is an
    int32 that cannot overflow, in whatever order it is formed. `multiplier` and `shift` name int32 arrays [out] that
    bring sums to the output's scale; `addend` is the (multiplier, shift) that brings inputs[1] to it. The result is
    clamped to `low` .. `high`, which hold zero and lie within the output's limits: ReLU and ReLU6 are clamps.
    """

    multiplier: ArrayName = ""
    shift: ArrayName = ""
    addend: tuple[int, int] = (0, 1)
    low: int = 0
    high: int = 0


@dataclass(frozen=True)
class IntegerConvToFloat(Conv):
    """masked(convolution(inputs[0]) + bias) * scale as float32, of 8-bit integers.

    Sums are as an `IntegerConv`'s; they are rounded to float32, and so is the product with `scale`, an array [out].
    """

    scale: ArrayName = ""


@dataclass(frozen=True)
class IntegerConvToSums(Conv):
    """convolution(inputs[0]) + bias as int32, of 8-bit integers: partial sums, without gates.

    Sums are as an `IntegerConv`'s.
    """


@dataclass(frozen=True)
class IntegerDecide(Decide):
    """Decides an activation gate on partial sums, int32, without any rounding.

    A unit is open where the sum of inputs[0] over its channels, plus `offset`, is above 0, or at least 0 if not
    `strict`; `offset` names an int32 array [units, 1, 1]. The sum cannot overflow. The logits that are reported are
    that integer, rounded to float32, times `scale`, which names a float32 array [units] above 0. There is no `shift`.
    """


@dataclass(frozen=True)
class IntegerComplete(Completing):
    """clamp(brought(sum + convolution(inputs[0]) + open_bias) + brought(inputs[2])) where `gate` is open, to 8 bits.

    Elsewhere clamp(brought(sum + bias) + brought(inputs[2])). inputs[0] and `weight` are of 8-bit integers, inputs[1]
    are int32, and no sum leaves an int32. The biases name int32 arrays [out], in units of the sums; sums are brought to
    the output's scale by `open_multiplier` and `open_shift` where the gate is open, elsewhere by `multiplier` and
    `shift`, int32 arrays [out]: these multipliers may be negative, as what follows partial sums may turn their sign.
    `addend` and the clamp are an `IntegerConv`'s.
    """

    bias: ArrayName = ""
    multiplier: ArrayName = ""
    shift: ArrayName = ""
    open_bias: ArrayName = ""
    open_multiplier: ArrayName = ""
    open_shift: ArrayName = ""
    addend: tuple[int, int] = (0, 1)
    low: int = 0
    high: int = 0


@dataclass(frozen=True)
class IntegerAdd(Operation):
    """clamp(brought(inputs[0]) + brought(inputs[1])), spread as in `Add`.

    Input i is brought to the output's scale by `multipliers[i]` and `shifts[i]`; the sum is clamped to `low` .. `high`.
    """

    multipliers: tuple[int, int]
    shifts: tuple[int, int]
    low: int
    high: int


@dataclass(frozen=True)
class Lookup(Operation):
    """table[inputs[0]]: any function of single elements.

    `table` names an array [256] of the output's element type; entry i is for the integer i of a uint8, i - 128 of an
    int8.
    """

    table: ArrayName


@dataclass(frozen=True)
class IntegerMean(Operation):
    """The averages of 8-bit integers over the output's grid of cells, as float32; cells are those of `PoolToGrid`.

    A cell's integers are summed exactly; the sum, and its product with float32(scale / number of elements), are rounded
    to float32.
    """

    grid: tuple[int, int] = (0, 0)
    mask: MaskName = ""
