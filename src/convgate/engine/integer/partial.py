"""Partial sums of 8-bit integers: decisions on them, and their completion, exact and by the definition."""

from collections.abc import Sequence

import numpy as np

from convgate.engine.integer.requantise import brought
from convgate.engine.integer.sums import convolution
from convgate.engine.program import Conv, Gate, IntegerComplete, IntegerDecide, Program

__all__ = ["completed", "decided"]


def decided(op: IntegerDecide, program: Program, gate: Gate, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mask, uint8, and the logits, float32, both [N, units, rows, columns], for sums int32 [N, C, rows, columns].

    >>> from convgate.engine.program import Gate, GateKind, IntegerDecide, Program
    >>> op = IntegerDecide(("sums",), "g", "offset", scale="scale", strict=True)
    >>> arrays = {"offset": np.array([[[-5]], [[0]]], np.int32), "scale": np.array([0.5, 1.0], np.float32)}
    >>> gate = Gate("g", GateKind.ACTIVATION, (2, 1, 1), group=2)
    >>> program = Program((), (gate,), (op,), (), (), arrays)
    >>> mask, logits = decided(op, program, gate, np.array([4, 2, 7, -7], np.int32).reshape(1, 4, 1, 1))
    >>> mask.ravel().tolist(), logits.ravel().tolist()
    ([1, 0], [0.5, 0.0])
    """
    units = np.add.reduceat(sums, np.arange(0, sums.shape[1], gate.group), axis=1, dtype=np.int64)
    above = units + program.arrays[op.offset]
    mask = above > 0 if op.strict else above >= 0
    return mask.astype(np.uint8), above.astype(np.float32) * program.arrays[op.scale][:, None, None]


def completed(op: IntegerComplete, program: Program, mask: np.ndarray, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """int64 [N, out, H, W] within the clamp: sums with the rest of them where the mask [N, out, H, W] is open."""
    is_open = mask.astype(bool)
    sums = inputs[1] + np.where(is_open, _rest(op, inputs[0], program.arrays[op.weight]), 0)

    def chosen(name: str) -> np.ndarray:
        """An array of the operation, as it is where the gate is open and where it is not."""
        closed, opened = (program.arrays[getattr(op, prefix + name)] for prefix in ("", "open_"))
        return np.where(is_open, opened[:, None, None], closed[:, None, None])

    result = brought(sums + chosen("bias"), chosen("multiplier"), chosen("shift"))
    if len(inputs) > 2:
        result += brought(inputs[2], *op.addend)
    return np.clip(result, op.low, op.high)


def _rest(op: IntegerComplete, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What partial sums lack: int32 [N, out, H, W]."""
    chunks = np.split(x, op.parts, 1)
    parts = []
    for i, own in enumerate(np.split(weight, op.parts)):
        others = [chunk for j, chunk in enumerate(chunks) if op.parts == 1 or j != i]
        parts.append(convolution(_conv(op), np.concatenate(others, 1), own))
    return np.concatenate(parts, 1)


def _conv(op: IntegerComplete) -> Conv:
    """A convolution of that geometry."""
    return Conv(op.inputs[:1], op.output, op.weight, "", op.layer, op.stride, op.padding, op.dilation)
