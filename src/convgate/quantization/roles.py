"""Which operations of a program compute with integers, which values these are, and which of them share a scale."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from convgate.engine.check.elements import moves
from convgate.engine.program import (
    Activate,
    Activation,
    Add,
    Complete,
    Conv,
    Decide,
    Mask,
    Multiply,
    Operation,
    Pool,
    PoolToGrid,
    Program,
    is_large_layer,
    serving_decisions,
)
from convgate.quantization.partial import PartialSums, partial_sums
from convgate.quantization.ties import joined

__all__ = ["Roles", "convolutions", "roles", "signs"]

_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hardsigmoid", "softplus")


@dataclass(frozen=True)
class Roles:
    """What becomes of a program.

    Attributes:
        integers: the results of operations that compute with integers.
        encoded: the values that integers stand for somewhere, with the values that must share their scale.
        shortcuts: (shortcut, sum) of residual sums that may have the scale of their shortcut; see `tied`.
        to_float: of `integers`, those that convolutions write as float32.
        sums: the partial sums that stay integers of 32 bits, by name.

    """

    integers: frozenset[str]
    encoded: Mapping[str, frozenset[str]]
    shortcuts: tuple[tuple[str, str], ...]
    to_float: frozenset[str]
    sums: Mapping[str, PartialSums] = field(default_factory=dict)


def convolutions(program: Program, keep: Iterable[str], heads: int | None) -> frozenset[str]:
    """The results of the convolutions that compute with integers: all but those of layers in `keep`.

    Of gates' heads, those with at least `heads` weights; of those with None, none. Partial sums are no results: what
    completes them is, where integers can.
    """
    kept, serving = set(keep), serving_decisions(program)
    completed = {parts.complete.output for parts in partial_sums(program, kept).values()}
    wide = {op.inputs[1] for op in program.operations if isinstance(op, Complete)}
    wide |= {name for op in program.operations if isinstance(op, Decide) for name in op.inputs if name not in serving}

    def computes(op: Conv) -> bool:
        small = op.output in serving and not is_large_layer(program, op, heads)
        return op.layer not in kept and op.output not in wide and not small

    return frozenset(op.output for op in program.operations if type(op) is Conv and computes(op)) | completed


def roles(program: Program, chosen: frozenset[str], negative: frozenset[str]) -> Roles:
    """The roles in a program of which the convolutions `chosen` compute with integers.

    Args:
        program: its chosen convolutions have no activations but clamps.
        chosen: see `convolutions`.
        negative: the values that may be negative, see `signs`.

    """
    heads = serving_decisions(program)
    sums = {name: parts for name, parts in partial_sums(program, ()).items() if parts.complete.output in chosen}
    integers = set(chosen)
    for op in program.operations:
        if _follows(op, integers) and (op.output not in heads or isinstance(op, PoolToGrid) or moves(op)):
            integers.add(op.output)
    readers: dict[str, list[Operation]] = {}
    for op in program.operations:
        for name in op.inputs:
            readers.setdefault(name, []).append(op)
    to_float = {
        op.output
        for op in program.operations
        if op.output in chosen
        and len(op.inputs) == 1
        and not any(reader.output in integers for reader in readers.get(op.output, []))
    }
    to_float |= {op.output for op in program.operations if op.output in integers and isinstance(op, PoolToGrid)}
    encoded = {op.output for op in program.operations if op.output in integers - to_float}
    encoded |= {name for op in program.operations if op.output in integers for name in op.inputs}
    encoded |= {name for parts in sums.values() for name in parts.reads}
    groups = {name: frozenset({name}) for name in encoded - set(sums)}
    alike = [parts.reads for parts in sums.values()]
    moved = {op.output for op in program.operations if moves(op) and not isinstance(op, Mask)}
    shortcuts = list[tuple[str, str]]()
    for op in program.operations:
        if op.output in encoded and op.output in integers:
            pairs = [(name, op.output) for name in (op.inputs if moves(op) else _shortcut(op, negative, moved))]
            (alike if moves(op) else shortcuts).extend(pairs)
    return Roles(frozenset(integers), joined(groups, alike), tuple(shortcuts), frozenset(to_float), sums)


def signs(program: Program) -> frozenset[str]:
    """The values that may be negative, as far as their operations tell; images may."""
    found = set(program.inputs)
    for op in program.operations:
        if isinstance(op, Decide):
            continue
        activation: Activation | None = getattr(op, "activation", None)
        if activation is not None and (
            activation.name in _NOT_NEGATIVE or (activation.name == "clamp" and activation.parameters[0] >= 0)
        ):
            continue
        if isinstance(op, Add | Mask | Multiply | Pool | PoolToGrid | Activate) or moves(op):
            if any(name in found for name in op.inputs):
                found.add(op.output)
        else:
            found.add(op.output)
    return frozenset(found)


def _follows(op: Operation, integers: set[str]) -> bool:
    """Whether an operation computes with integers because it reads some."""
    if isinstance(op, PoolToGrid):
        return not op.maximum and op.inputs[0] in integers
    return isinstance(op, Activate | Add) | moves(op) and any(name in integers for name in op.inputs)


def _shortcut(op: Operation, negative: frozenset[str], moved: set[str]) -> tuple[str, ...]:
    """What a convolution adds, if it can have the scale of the sum; what was moved is a map of its own anyway."""
    if not isinstance(op, Conv | Complete):
        return ()
    added = op.inputs[1:] if isinstance(op, Conv) else op.inputs[2:]
    if not added or added[0] in moved:
        return ()
    return added if (added[0] in negative) == (op.output in negative) else ()
