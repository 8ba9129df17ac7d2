"""The height and width of what an operation writes, from those of what it reads: one rule for each type of operation.

Programs are checked by these rules, and derived for images of another size.
"""

from collections.abc import Sequence
from functools import singledispatch

from convgate.engine.program import (
    Activate,
    Add,
    Affine,
    Arithmetic,
    Completing,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Dequantize,
    FillClosed,
    GroupNorm,
    IntegerAdd,
    IntegerMean,
    Interpolate,
    LayerNorm,
    Lookup,
    Mask,
    Multiply,
    Operation,
    OverChannels,
    Pad,
    Pick,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    PoolToGrid,
    PRelu,
    Program,
    Quantize,
    Reshape,
    Slice,
    Softmax,
)
from convgate.errors import ProgramError

__all__ = ["Size", "size_of"]

Size = tuple[int, int]
"""Height and width."""


@singledispatch
def size_of(op: Operation, program: Program, inputs: Sequence[Size]) -> Size:
    """The height and width of what `op` writes.

    Args:
        op: an operation of the program.
        program: holds the arrays that it names.
        inputs: height and width of each of its inputs, which need not be those of the program.

    Raises:
        ProgramError: what it writes has one size, or none follows.

    """
    raise ProgramError(f"'{op.output}' ({type(op).__name__}) has one size")


@size_of.register
def _same(
    op: Activate
    | Affine
    | Concat
    | Dequantize
    | FillClosed
    | GroupNorm
    | LayerNorm
    | Lookup
    | Mask
    | OverChannels
    | PRelu
    | Pick
    | Quantize
    | Slice
    | Softmax,
    program: Program,
    inputs: Sequence[Size],
) -> Size:
    return inputs[0]


@size_of.register
def _largest(op: Add | Arithmetic | IntegerAdd | Multiply, program: Program, inputs: Sequence[Size]) -> Size:
    return max(size[0] for size in inputs), max(size[1] for size in inputs)


@size_of.register
def _convolution(op: Completing | Conv, program: Program, inputs: Sequence[Size]) -> Size:
    kernel = program.arrays[op.weight].shape[2:]
    top, left, bottom, right = op.padding
    around = (top + bottom, left + right)
    height, width = (
        (inputs[0][i] + around[i] - op.dilation[i] * (kernel[i] - 1) - 1) // op.stride[i] + 1 for i in range(2)
    )
    return height, width


@size_of.register
def _constant(op: Constant, program: Program, inputs: Sequence[Size]) -> Size:
    _, height, width = program.arrays[op.weight].shape
    return height, width


@size_of.register
def _transposed(op: ConvTranspose, program: Program, inputs: Sequence[Size]) -> Size:
    kernel = program.arrays[op.weight].shape[2:]

    def extent(i: int) -> int:
        spread = (inputs[0][i] - 1) * op.stride[i] - 2 * op.padding[i]
        return spread + op.dilation[i] * (kernel[i] - 1) + op.output_padding[i] + 1

    return extent(0), extent(1)


@size_of.register
def _padded(op: Pad, program: Program, inputs: Sequence[Size]) -> Size:
    top, left, bottom, right = op.padding
    return inputs[0][0] + top + bottom, inputs[0][1] + left + right


@size_of.register
def _shuffled(op: PixelShuffle, program: Program, inputs: Sequence[Size]) -> Size:
    return inputs[0][0] * op.factor, inputs[0][1] * op.factor


@size_of.register
def _unshuffled(op: PixelUnshuffle, program: Program, inputs: Sequence[Size]) -> Size:
    return inputs[0][0] // op.factor, inputs[0][1] // op.factor


@size_of.register
def _reshaped(op: Reshape, program: Program, inputs: Sequence[Size]) -> Size:
    """Only what has the same size for all images is reshaped."""
    before, after = program.value(op.inputs[0]), program.value(op.output)
    if inputs[0] != (before.height, before.width):
        raise ProgramError(f"'{op.output}' is a map of one size in another shape")
    return after.height, after.width


@size_of.register
def _interpolate(op: Interpolate, program: Program, inputs: Sequence[Size]) -> Size:
    if len(inputs) > 1:
        return inputs[1]
    if tuple(op.size) != (0, 0):
        return op.size
    return int(inputs[0][0] * op.scales[0]), int(inputs[0][1] * op.scales[1])


@size_of.register
def _pool(op: Pool, program: Program, inputs: Sequence[Size]) -> Size:
    def extent(i: int) -> int:
        room = inputs[0][i] + 2 * op.padding[i] - op.dilation[i] * (op.kernel[i] - 1) - 1
        if room < 0 or not op.ceil:
            return room // op.stride[i] + 1
        windows = -(-room // op.stride[i]) + 1
        # As PyTorch: the last window begins inside the map or its first padding.
        return windows - ((windows - 1) * op.stride[i] >= inputs[0][i] + op.padding[i])

    return extent(0), extent(1)


@size_of.register
def _grid(op: IntegerMean | PoolToGrid, program: Program, inputs: Sequence[Size]) -> Size:
    rows, columns = op.grid
    return rows or inputs[0][0], columns or inputs[0][1]
