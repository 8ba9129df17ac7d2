"""Operations on 8-bit integers; `convgate.engine.integer` defines their arithmetic to the bit.

Values of integers (`Value.element`) are written by these and by operations that only move or choose elements, whose
inputs and output then have one element type and one scale: `Mask`, `Concat`, `Slice`, `Pick`, `Reshape`, `Pad` with
zeros, `PixelShuffle`, `PixelUnshuffle`, the maximum of a `Pool`. All other operations read and write float32.

A sum or a value v is brought to the scale of another by a multiplier m and a shift s: (v * m + 2^(s-1)) >> s, computed
exactly. It is the nearest integer to v * m / 2^s, halves rounded up.
"""

from dataclasses import dataclass

from convgate.engine.program.convolutions import Conv
from convgate.engine.program.operation import ArrayName, MaskName, Operation

__all__ = ["Dequantize", "IntegerAdd", "IntegerConv", "IntegerConvToFloat", "IntegerMean", "Lookup", "Quantize"]


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
