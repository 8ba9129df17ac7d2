"""Is a program for images of any size? Told by lowering its network at two further sizes, and comparing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from convgate.engine.lowering.facts import without_logs
from convgate.engine.program import Interpolate, Operation, Program, label
from convgate.engine.sizes import at
from convgate.errors import ConvgateError, InputError, TraceError

__all__ = ["settle"]

_MORE = ((32, 64), (33, 65))
"""How many rows and columns the further sizes have more.

First a multiple of what networks reduce maps by, which most networks take; then the other parity, at which halved maps
are rounded and code such as `if height % 2` goes the other way.
"""


def settle(program: Program, again: Callable[[int, int], Any]) -> Program:
    """The program with `fixed` saying what in it is for one size only, if anything is.

    `again` lowers the network for another height and width. Sizes that Python code made numbers of (of an
    interpolation, of paddings, of views) are seen by the difference. Where an interpolation's is at all sizes that of
    another map, it is said so, and the program is for any size. A network need not take the second of the further
    sizes, if the program does not take it either.
    """
    own = program.value(program.inputs[0])
    others: list[Program] = []
    refused: tuple[int, int, ConvgateError] | None = None
    for rows, columns in _MORE:
        height, width = own.height + rows, own.width + columns
        try:
            with torch.no_grad(), without_logs():
                others.append(again(height, width).program)
        except ConvgateError as error:
            if not others or not isinstance(error, TraceError | InputError):
                return replace(program, fixed=_tried(height, width, error))
            refused = height, width, error
    program = _like(program, [other for other in others if len(other.operations) == len(program.operations)])
    fixed = next(filter(None, (_unlike(program, other) for other in others)), "")
    if refused and not fixed and _takes(program, *refused[:2]):
        fixed = _tried(*refused)
    return replace(program, fixed=fixed)


def _takes(program: Program, height: int, width: int) -> bool:
    try:
        at(program, height, width)
    except InputError:
        return False
    return True


def _unlike(program: Program, other: Program) -> str:
    """What differs first between a program brought to another size, and one made for that size; "" if nothing does."""
    images = other.value(other.inputs[0])
    try:
        mine = at(program, images.height, images.width)
    except ConvgateError as error:
        return _tried(images.height, images.width, error)
    if len(other.operations) == len(program.operations):
        other = replace(other, operations=_same_names(program, other))
    return _difference(mine, other)


def _tried(height: int, width: int, error: ConvgateError) -> str:
    return f"tried with {height} x {width}: {str(error).splitlines()[0].partition('. Give ')[0]}"


def _like(program: Program, others: Sequence[Program]) -> Program:
    """Interpolations to fixed sizes as interpolations to the size of another value, where one has it at all sizes."""
    operations = list(program.operations)
    written = set(program.inputs)
    for number, a in enumerate(program.operations):
        there = [b for b in (other.operations[number] for other in others) if isinstance(b, Interpolate)]
        if (
            isinstance(a, Interpolate)
            and len(a.inputs) == 1
            and len(there) == len(others)
            and any(b.size != a.size for b in there)
        ):
            sizes: list[tuple[Program, Operation]] = [(program, a), *zip(others, there, strict=True)]
            for value in program.values:
                if value.name in written and all(_has_size(one, value.name, b) for one, b in sizes):
                    operations[number] = replace(a, inputs=(*a.inputs, value.name), size=(0, 0))
                    break
        written.add(a.output)
    return replace(program, operations=tuple(operations))


def _has_size(program: Program, name: str, interpolation: Operation) -> bool:
    """Whether a value of the program has the size that an interpolation writes."""
    if not program.has(name):
        return False
    value, written = program.value(name), program.value(interpolation.output)
    return (value.height, value.width) == (written.height, written.width)


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
            if mine.has(name) and mine.value(name).shape != other.value(name).shape:
                return f"the size of '{name}' does not follow from its operations"
    if len(mine.operations) != len(other.operations) or mine.returns != other.returns or mine.vectors != other.vectors:
        return "the network does something else at another size"
    shapes = {gate.name: gate.shape for gate in other.gates}
    for gate in mine.gates:
        if shapes.get(gate.name) != gate.shape:
            return f"the mask of gate '{gate.name}' does not follow the size of a map"
    return ""
