"""A program for images of another size: the sizes of all values and masks, derived anew from the operations."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from convgate.engine.check import check
from convgate.engine.program import (
    Activate,
    Add,
    Affine,
    Arithmetic,
    Complete,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Decide,
    Gate,
    GateKind,
    GroupNorm,
    Interpolate,
    LayerNorm,
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
    Reshape,
    Slice,
    Softmax,
)
from convgate.errors import InputError, ProgramError

__all__ = ["at", "mask_shape"]

Size = tuple[int, int]
Rule = Callable[[Program, Any, list[Size]], Size]


def at(program: Program, height: int, width: int) -> Program:
    """The same program for images of `height` x `width`.

    Raises `InputError` for a program that is for one size (`Program.fixed` says why), and for a size that the network
    does not take.
    """
    own = program.value(program.inputs[0])
    if (height, width) == (own.height, own.width):
        return program
    where = f"images of {height} x {width}, and this engine was compiled for {own.height} x {own.width}"
    if program.fixed or len(program.inputs) > 1:
        why = program.fixed or "it takes several inputs"
        raise InputError(f"the engine was given {where}: it runs at one size ({why}). Resize, or compile for that size")
    try:
        sized = _Sizes(program, (height, width)).program()
        check(sized)
    except ProgramError as error:
        raise InputError(f"the engine was given {where}. The network does not take that size: {error}") from None
    return sized


class _Sizes:
    def __init__(self, program: Program, size: Size) -> None:
        self.source = program
        self.sizes: dict[str, Size] = {program.inputs[0]: size}
        self.gates = {gate.name: gate for gate in program.gates if not _follows(gate)}

    def program(self) -> Program:
        left = list(self.source.operations)
        while left:
            # A gate's mask has the size of a map behind it, and what it reads is pooled to that: two rounds, mostly.
            waiting = [operation for operation in left if not self._known(operation)]
            self._masks()
            if len(waiting) == len(left):
                raise ProgramError(f"the size of '{waiting[0].output}' follows from nothing")
            left = waiting
        self._masks()
        source = self.source
        values = tuple(replace(v, height=self.sizes[v.name][0], width=self.sizes[v.name][1]) for v in source.values)
        return replace(source, values=values, gates=tuple(self.gates[gate.name] for gate in source.gates))

    def _known(self, operation: Operation) -> bool:
        """Find the size of what an operation writes, if those that it follows from are known."""
        if isinstance(operation, Decide):
            return operation.inputs[0] in self.sizes
        if not all(name in self.sizes for name in operation.inputs):
            return False
        if isinstance(operation, PoolToGrid) and operation.mask:
            if operation.mask not in self.gates:
                return False
            _, rows, columns = self.gates[operation.mask].shape
            size = rows, columns
        else:
            rule = _RULES.get(type(operation))
            if rule is None:
                raise ProgramError(f"'{operation.output}' ({type(operation).__name__}) has one size")
            size = rule(self.source, operation, [self.sizes[name] for name in operation.inputs])
        if min(size) < 1:
            raise ProgramError(f"nothing would be left of '{operation.output}' ({type(operation).__name__})")
        self.sizes[operation.output] = size
        return True

    def _masks(self) -> None:
        for gate in self.source.gates:
            if gate.name not in self.gates and gate.on in self.sizes:
                self.gates[gate.name] = replace(gate, shape=mask_shape(gate, self.sizes[gate.on]))


def _follows(gate: Gate) -> bool:
    """Whether a gate's mask follows the size of a map."""
    return gate.kind == GateKind.ACTIVATION or gate.sides != (0, 0)


def mask_shape(gate: Gate, size: Size) -> tuple[int, int, int]:
    """The shape of a gate's mask for a map of `size`, of a gate whose mask follows the map's."""
    if gate.kind == GateKind.ACTIVATION:
        return gate.shape[0], *size
    return 1, math.ceil(size[0] / gate.sides[0]), math.ceil(size[1] / gate.sides[1])


def _same(_: Program, __: Operation, inputs: list[Size]) -> Size:
    return inputs[0]


def _largest(_: Program, __: Operation, inputs: list[Size]) -> Size:
    return max(size[0] for size in inputs), max(size[1] for size in inputs)


def _convolution(program: Program, op: Conv | Complete, inputs: list[Size]) -> Size:
    kernel = program.arrays[op.weight].shape[2:]
    top, left, bottom, right = op.padding
    around = (top + bottom, left + right)
    height, width = (
        (inputs[0][i] + around[i] - op.dilation[i] * (kernel[i] - 1) - 1) // op.stride[i] + 1 for i in range(2)
    )
    return height, width


def _pool(_: Program, op: Pool, inputs: list[Size]) -> Size:
    def extent(i: int) -> int:
        room = inputs[0][i] + 2 * op.padding[i] - op.dilation[i] * (op.kernel[i] - 1) - 1
        if room < 0 or not op.ceil:
            return room // op.stride[i] + 1
        windows = -(-room // op.stride[i]) + 1
        # As PyTorch: the last window begins inside the map or its first padding.
        return windows - ((windows - 1) * op.stride[i] >= inputs[0][i] + op.padding[i])

    return extent(0), extent(1)


def _grid(_: Program, op: PoolToGrid, inputs: list[Size]) -> Size:
    rows, columns = op.grid
    return rows or inputs[0][0], columns or inputs[0][1]


def _interpolate(_: Program, op: Interpolate, inputs: list[Size]) -> Size:
    if len(inputs) > 1:
        return inputs[1]
    if op.size != (0, 0):
        return op.size
    return int(inputs[0][0] * op.scales[0]), int(inputs[0][1] * op.scales[1])


def _transposed(program: Program, op: ConvTranspose, inputs: list[Size]) -> Size:
    kernel = program.arrays[op.weight].shape[2:]

    def extent(i: int) -> int:
        spread = (inputs[0][i] - 1) * op.stride[i] - 2 * op.padding[i]
        return spread + op.dilation[i] * (kernel[i] - 1) + op.output_padding[i] + 1

    return extent(0), extent(1)


def _padded(_: Program, op: Pad, inputs: list[Size]) -> Size:
    top, left, bottom, right = op.padding
    return inputs[0][0] + top + bottom, inputs[0][1] + left + right


def _shuffled(_: Program, op: PixelShuffle, inputs: list[Size]) -> Size:
    return inputs[0][0] * op.factor, inputs[0][1] * op.factor


def _unshuffled(_: Program, op: PixelUnshuffle, inputs: list[Size]) -> Size:
    return inputs[0][0] // op.factor, inputs[0][1] // op.factor


def _constant(program: Program, op: Constant, _: list[Size]) -> Size:
    _, height, width = program.arrays[op.weight].shape
    return height, width


def _reshaped(program: Program, op: Reshape, inputs: list[Size]) -> Size:
    """Only what has the same size for all images is reshaped."""
    before, after = program.value(op.inputs[0]), program.value(op.output)
    if inputs[0] != (before.height, before.width):
        raise ProgramError(f"'{op.output}' is a map of one size in another shape")
    return after.height, after.width


_RULES: Mapping[type, Rule] = {
    Activate: _same,
    Add: _largest,
    Affine: _same,
    Arithmetic: _largest,
    Complete: _convolution,
    Concat: _same,
    Constant: _constant,
    ConvTranspose: _transposed,
    GroupNorm: _same,
    LayerNorm: _same,
    OverChannels: _same,
    Pad: _padded,
    PixelShuffle: _shuffled,
    PixelUnshuffle: _unshuffled,
    Reshape: _reshaped,
    Softmax: _same,
    Conv: _convolution,
    Interpolate: _interpolate,
    Mask: _same,
    Multiply: _largest,
    Pick: _same,
    Pool: _pool,
    PoolToGrid: _grid,
    PRelu: _same,
    Slice: _same,
}
"""Operation -> the size of what it writes, from those of its inputs."""
