"""Convolutions and sums of integers clamp; any other activation becomes an operation of its own, a table later on."""

from dataclasses import replace

from convgate.engine.program import NO_ACTIVATION, Activate, Add, Complete, Conv, Operation, Program
from convgate.quantization.functions import clamp_of

__all__ = ["split_activations"]


def split_activations(program: Program, chosen: frozenset[str]) -> tuple[Program, frozenset[str]]:
    """The program with activations of the convolutions `chosen`, and of sums, as operations, unless they only clamp.

    Also the names of the chosen convolutions' results, which are other values where an activation follows.
    """
    values, operations, now = list(program.values), list[Operation](), set(chosen)
    for op in program.operations:
        if (isinstance(op, Add) or op.output in chosen) and clamp_of(op.activation) is None:  # type: ignore[attr-defined]
            assert isinstance(op, Add | Complete | Conv)
            before = replace(program.value(op.output), name=f"{op.output} before {op.activation.name}")
            values.append(before)
            operations.append(replace(op, output=before.name, activation=NO_ACTIVATION))
            operations.append(Activate((before.name,), op.output, op.activation))
            if op.output in chosen:
                now = (now - {op.output}) | {before.name}
        else:
            operations.append(op)
    return replace(program, values=tuple(values), operations=tuple(operations)), frozenset(now)
