"""Is a program for images of any size? Told by lowering its network at a second size, and comparing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from convgate.engine.lowering.facts import without_logs
from convgate.engine.program import Interpolate, Program, label
from convgate.engine.sizes import at
from convgate.errors import ConvgateError

__all__ = ["settle"]

_MORE = (32, 64)
"""How many rows and columns the second size has more: a multiple of what networks reduce maps by."""


def settle(program: Program, again: Callable[[int, int], Any]) -> Program:
    """The program with `fixed` saying what in it is for one size only, if anything is.

    `again` lowers the network for another height and width. Sizes that Python code made numbers of (of an
    interpolation, of paddings, of views) are seen by the difference. Where an interpolation's is at both sizes that of
    another map, it is said so, and the program is for any size.
    """
    own = program.value(program.inputs[0])
    height, width = own.height + _MORE[0], own.width + _MORE[1]
    try:
        with torch.no_grad(), without_logs():
            other: Program = again(height, width).program
        if len(other.operations) == len(program.operations):
            program = _like(program, other)
            other = replace(other, operations=_same_names(program, other))
        mine = at(program, height, width)
    except ConvgateError as error:
        return replace(
            program, fixed=f"tried with {height} x {width}: {str(error).splitlines()[0].partition('. Give ')[0]}"
        )
    return replace(program, fixed=_difference(mine, other))


def _like(program: Program, other: Program) -> Program:
    """Interpolations to fixed sizes as interpolations to the size of another value, where one has it at both sizes."""
    operations = list(program.operations)
    for number, (a, b) in enumerate(zip(program.operations, other.operations, strict=True)):
        if isinstance(a, Interpolate) and isinstance(b, Interpolate) and a.size != b.size and len(a.inputs) == 1:
            written = {*program.inputs, *(operation.output for operation in program.operations[:number])}
            for value in program.values:
                there = other.has(value.name)
                if value.name in written and there and (value.height, value.width) == a.size:
                    twin = other.value(value.name)
                    if (twin.height, twin.width) == b.size:
                        operations[number] = replace(a, inputs=(*a.inputs, value.name), size=(0, 0))
                        break
    return replace(program, operations=tuple(operations))


def _same_names(program: Program, other: Program) -> tuple[Any, ...]:
    """The other program's operations, with interpolations said as in this one where their sizes agree."""
    operations = []
    for a, b in zip(program.operations, other.operations, strict=True):
        if isinstance(a, Interpolate) and isinstance(b, Interpolate) and len(a.inputs) == 2 and len(b.inputs) == 1:
            b = replace(b, inputs=(*b.inputs, a.inputs[1]), size=(0, 0))
        operations.append(b)
    return tuple(operations)


def _difference(mine: Program, other: Program) -> str:
    """What differs first between two programs for images of the same size; "" where nothing does."""
    for a, b in zip(mine.operations, other.operations, strict=False):
        if a != b:
            return f"'{label(a)}' ({type(a).__name__}) depends on the size of the images"
        for name in (a.output,):
            if mine.has(name) and mine.value(name) != other.value(name):
                return f"the size of '{name}' does not follow from its operations"
    if len(mine.operations) != len(other.operations) or mine.returns != other.returns or mine.vectors != other.vectors:
        return "the network does something else at another size"
    shapes = {gate.name: gate.shape for gate in other.gates}
    for gate in mine.gates:
        if shapes.get(gate.name) != gate.shape:
            return f"the mask of gate '{gate.name}' does not follow the size of a map"
    return ""
