"""A program for images of another size: the sizes of all values and masks, derived anew from the operations."""

import math
from dataclasses import replace

from convgate.engine.check import check
from convgate.engine.extents import Size, size_of
from convgate.engine.program import Decide, FillClosed, Gate, GateKind, IntegerMean, Operation, PoolToGrid, Program
from convgate.errors import InputError, ProgramError

__all__ = ["at", "mask_shape"]


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
        # What closed tiles are filled with has their number, and that follows from maps like this one.
        needed = operation.inputs[:1] if isinstance(operation, FillClosed) else operation.inputs
        if not all(name in self.sizes for name in needed):
            return False
        if isinstance(operation, IntegerMean | PoolToGrid) and operation.mask:
            if operation.mask not in self.gates:
                return False
            _, rows, columns = self.gates[operation.mask].shape
            size = rows, columns
        else:
            size = size_of(operation, self.source, [self.sizes[name] for name in needed])
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
