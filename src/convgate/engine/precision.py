"""Programs in bfloat16: which values are stored so, and weights rounded."""

from dataclasses import replace
from enum import StrEnum

import numpy as np

from convgate.engine.program import (
    FLOAT32_ONLY,
    WIDENS,
    Conv,
    Element,
    External,
    Operation,
    Program,
    is_large_layer,
    serving_decisions,
    weight_element,
)
from convgate.errors import InputError

__all__ = ["Precision", "check_heads", "from_bits", "in_precision", "precision_of", "to_bits"]


class Precision(StrEnum):
    """What maps and weights are stored as; sums are float32, or of integers."""

    FLOAT32 = "float32"
    BF16 = "bf16"
    INT8 = "int8"


def precision_of(program: Program) -> Precision:
    """The least precise type that any value of a program is stored as."""
    elements = {value.element for value in program.values}
    if any(element.is_integer for element in elements):
        return Precision.INT8
    return Precision.BF16 if Element.BFLOAT16 in elements else Precision.FLOAT32


def check_heads(heads: int | None) -> None:
    """Raise `InputError` unless that can be the number of weights from which on layers of heads are rounded."""
    if heads is not None and heads < 0:
        raise InputError(f"heads={heads}: give how many weights a layer of a head has at least, or None for no layer")


def in_precision(program: Program, precision: str | None, *, heads: int | None = None) -> Program:
    """The program in that precision; as it is where that is None, or its own.

    Args:
        program: in float32, or in the precision that is asked for.
        precision: "float32" or "bf16".
        heads: how many weights a layer of a gate's head has at least to be in bfloat16, too; None: no layer is.

    Raises `InputError` for one that is unknown, and where the program would have to be made again from the network.
    """
    if precision is None:
        return program
    known, own = (Precision.FLOAT32, Precision.BF16), precision_of(program)
    if own == precision:
        return program
    if precision not in known:
        how = "; for 8-bit integers call convgate.quantize(net, batches)" if precision == Precision.INT8 else ""
        raise InputError(f"precision {precision!r}: give {' or '.join(repr(str(name)) for name in known)}{how}")
    if own != Precision.FLOAT32:
        raise InputError(f"a program in {own} cannot be run in {precision}: its weights are rounded; compile it again")
    return _in_bfloat16(program, heads)


def _in_bfloat16(program: Program, heads: int | None) -> Program:
    """Maps and weights in bfloat16.

    Depthwise weights, outputs, gates' heads and what nothing in bfloat16 reads or writes stay float32. Of heads, layers
    with at least `heads` weights do not: what they read and their weights are rounded, but never logits.
    """
    kept = _float32(program, heads)
    values = tuple(v if v.name in kept else replace(v, element=Element.BFLOAT16) for v in program.values)
    stored = replace(program, values=values)
    users: dict[str, list[Operation]] = {}
    for operation in program.operations:
        if name := getattr(operation, "weight", ""):
            users.setdefault(name, []).append(operation)
    rounded = {
        name: to_bits(program.arrays[name])
        for name, operations in users.items()
        if all(isinstance(op, Conv) and weight_element(stored, op) is Element.BFLOAT16 for op in operations)
    }
    return replace(stored, arrays={**program.arrays, **rounded})


def _float32(program: Program, heads: int | None) -> set[str]:
    readers: dict[str, list[Operation]] = {value.name: [] for value in program.values}
    writers: dict[str, Operation] = {}
    for operation in program.operations:
        writers[operation.output] = operation
        for name in operation.inputs:
            readers[name].append(operation)

    def feeds_large_layers(name: str) -> bool:
        reading = readers.get(name, [])
        return bool(reading) and all(is_large_layer(program, operation, heads) for operation in reading)

    kept = {*program.outputs, *(name for name in serving_decisions(program) if not feeds_large_layers(name))}
    for operation in program.operations:
        if isinstance(operation, External):
            kept |= {operation.output, *operation.inputs}
    for name, reading in readers.items():
        by_floats = bool(reading) and all(isinstance(operation, FLOAT32_ONLY) for operation in reading)
        if by_floats and isinstance(writers.get(name), (*FLOAT32_ONLY, *WIDENS)):
            kept.add(name)
    return kept


def to_bits(array: np.ndarray) -> np.ndarray:
    """Finite float32 rounded to bfloat16 (to nearest, ties to even), as uint16: its upper half.

    >>> from_bits(to_bits(np.array([1.0, 1.01], np.float32))).tolist()
    [1.0, 1.0078125]
    """
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16).astype(np.uint16)


def from_bits(bits: np.ndarray) -> np.ndarray:
    """The float32 that these halves, uint16, stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
