"""Convolutions that a gate completes, in integers: which of them can be, their units, thresholds, what follows sums."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from convgate.engine.integer import multiplier_and_shift
from convgate.engine.program import Complete, Conv, Decide, GateKind, Program, serving_decisions
from convgate.quantization.units import MOST_BIAS, weight_units

__all__ = ["FollowingSums", "PartialSums", "partial_sums"]

_MOST = 1 << 30
"""No sum, nor sum of a unit's sums, reaches it; offsets and biases after the sums do not exceed it."""


@dataclass(frozen=True, eq=False)
class PartialSums:
    """A base path, the decision on its sums (None if something else decides the gate), and what completes them."""

    base: Conv
    decision: Decide | None
    complete: Complete

    @property
    def reads(self) -> tuple[str, str]:
        """The maps that both convolutions read, which need one scale: their sums are added."""
        return self.base.inputs[0], self.complete.inputs[0]

    def units(self, program: Program, scale: float) -> np.ndarray:
        """What 1 stands for in each channel's sums, float64 [out], for maps in units of `scale`.

        Both convolutions share the weights' unit, which is the least that keeps all weights within 127 and the bias
        within 2^24. Where a gate decides on groups of channels, larger ones make the normalised sums of a group equal
        in unit: then it decides on a sum of integers.
        """
        base, rest = (program.arrays[op.weight].astype(np.float64) for op in (self.base, self.complete))
        units = weight_units([base, rest], program.arrays[self.base.bias] if self.base.bias else None, scale)
        if self.decision is not None:
            factors, group = _scale(program, self.decision.scale, len(units)), self._group(program)
            most = np.maximum.reduceat(units * factors, np.arange(0, len(units), group))
            units = np.repeat(most, group)[: len(units)] / factors
        return units * scale

    def offsets(self, program: Program, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of an `IntegerDecide`: the offset, int32 [units, 1, 1], and the scale of its logits, float32 [units].

        The decision is that of the logits in exact arithmetic: for whole sums, s > x is s > floor(x).
        """
        op = self.decision
        assert op is not None
        begins = np.arange(0, len(units), self._group(program))
        counts = np.diff([*begins, len(units)])
        steps = (units * _scale(program, op.scale, len(units)))[begins]
        shifts = np.add.reduceat(_shift(program, op.shift, len(units)), begins)
        least = -(shifts + counts * program.arrays[op.offset].ravel().astype(np.float64)) / steps
        rounded = np.floor(least) if op.strict else np.ceil(least)
        offset = -np.clip(rounded, -_MOST, _MOST).astype(np.int32)
        return offset[:, None, None], np.maximum(steps / counts, np.finfo(np.float32).tiny).astype(np.float32)

    def following(self, program: Program, units: np.ndarray, scale: float, *, opened: bool) -> "FollowingSums":
        """What follows the sums where the gate is open, or is not, for a result in units of `scale`."""
        op, count = self.complete, len(units)
        names = (op.open_scale, op.open_shift) if opened else (op.scale, op.shift)
        factors, shifts = _scale(program, names[0], count) * units, _shift(program, names[1], count)
        # Of a channel that its norm makes all but constant, the shift has no form in units of the sums. Those are taken
        # for larger ones, of which even the greatest sum is hardly seen beside the shift.
        least = np.abs(shifts) / _MOST
        factors = np.where(np.abs(factors) < least, np.copysign(least, factors), factors)
        signs = np.where(factors < 0, -1, 1)
        biases = np.divide(shifts, factors, out=np.zeros(count), where=factors != 0)
        multipliers, rights = multiplier_and_shift(np.abs(factors) / scale)
        return FollowingSums(np.rint(biases).astype(np.int32), (signs * multipliers).astype(np.int32), rights)

    def _group(self, program: Program) -> int:
        return next(gate.group for gate in program.gates if gate.name == self.complete.gate)


@dataclass(frozen=True, eq=False)
class FollowingSums:
    """How sums become the integers of another scale: biases, multipliers with a sign and shifts, int32 [out] each."""

    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray


def partial_sums(program: Program, keep: Iterable[str]) -> Mapping[str, PartialSums]:
    """The convolutions that integers can complete, by the name of their partial sums.

    Those of layers in `keep` are left out; so are partial sums that anything else reads, or that other gates skip.
    """
    kept, heads = set(keep), serving_decisions(program)
    writers = {op.output: op for op in program.operations if not isinstance(op, Decide)}
    found = {}
    for op in program.operations:
        if type(op) is not Complete or op.layer in kept or op.output in heads or op.inputs.count(op.inputs[1]) > 1:
            continue
        base = writers.get(op.inputs[1])
        readers = [other for other in program.operations if op.inputs[1] in other.inputs and other is not op]
        if type(base) is not Conv or not _is_plain(base) or base.layer in kept or base.output in program.outputs:
            continue
        decision = readers[0] if readers else None
        if len(readers) > 1 or not (decision is None or _decides(program, decision, op.gate)):
            continue
        parts = PartialSums(base, decision if isinstance(decision, Decide) else None, op)
        if _is_small(program, parts):
            found[base.output] = parts
    return found


def _is_plain(base: Conv) -> bool:
    return len(base.inputs) == 1 and not (base.activation or base.positions or base.in_channels or base.out_channels)


def _decides(program: Program, op: object, gate: str) -> bool:
    """Whether an operation decides that gate by a threshold on normalised sums."""
    known = {one.name: one for one in program.gates}
    return (
        type(op) is Decide
        and op.output == gate
        and known[gate].kind == GateKind.ACTIVATION
        and bool((_scale(program, op.scale, 1) > 0).all())
    )


def _is_small(program: Program, parts: PartialSums) -> bool:
    """Whether no sum of any weights of 8 bits, nor what decisions add up, reaches the most that there is room for."""
    base, rest = (program.arrays[op.weight][0].size for op in (parts.base, parts.complete))
    most = 127 * 255
    group = parts._group(program) if parts.decision else 1
    return ((base + rest) * most + MOST_BIAS) < _MOST and group * (base * most + MOST_BIAS) < _MOST


def _scale(program: Program, name: str, channels: int) -> np.ndarray:
    return program.arrays[name].astype(np.float64) if name else np.ones(channels)


def _shift(program: Program, name: str, channels: int) -> np.ndarray:
    return program.arrays[name].astype(np.float64) if name else np.zeros(channels)
