"""What the rules of a check have in common: the program, what is known so far, and requirements that name the place."""

import math
from typing import Any

import numpy as np

from convgate.engine.extents import size_of
from convgate.engine.program import GateKind, Operation, Program, Value
from convgate.errors import ProgramError

__all__ = ["MOST_CHANNELS", "MOST_EXTENT", "MOST_POSITIONS", "Checker"]

MOST_POSITIONS = 1 << 24
"""Positions of one value, 4096 x 4096: more is a mistake, or an attempt to exhaust memory."""

MOST_EXTENT = 1 << 20
"""Extents of any kind: sides of values, paddings, strides."""

MOST_CHANNELS = 1 << 24
"""Channels of one value."""

_MOST_KERNEL = 4096


class Checker:
    """A check that is under way.

    Attributes:
        program: what is checked.
        values: the program's values by name.
        gates: the program's gates by name.
        layers: the lines of its ledger.
        written: the values that have been written so far.
        decided: the gates that have been decided so far.
        largest: of each value of partial sums, what no sum's magnitude exceeds: int64 [channels].
        place: what is looked at; named in front of what is wrong.

    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.values = {value.name: value for value in program.values}
        self.gates = {gate.name: gate for gate in program.gates}
        self.layers = frozenset(program.layers)
        self.written: set[str] = set()
        self.decided: set[str] = set()
        self.largest: dict[str, np.ndarray] = {}
        self.place = "the program"

    def require(self, condition: bool, what: str) -> None:
        """Raise `ProgramError`, with the place, unless the condition holds."""
        if not condition:
            raise ProgramError(f"{self.place}: {what}")

    def extents(self, *numbers: Any) -> None:
        """Require whole numbers of at least 1 that are not absurdly large."""
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
        self.require(whole and all(1 <= n <= MOST_CHANNELS for n in numbers), f"sizes {numbers} out of range")

    def array(self, name: str, *shape: int, finite: bool = True, of: Any = np.float32) -> None:
        """Require an array of that name, shape and type, of finite numbers unless `finite` is False.

        Of the type uint16, an array holds bfloat16.
        """
        array = self.program.arrays.get(name)
        self.require(array is not None, f"array '{name}' does not exist")
        assert array is not None
        self.require(array.dtype == of, f"array '{name}' is {array.dtype}, not {np.dtype(of).name}")
        self.require(array.shape == shape, f"array '{name}' has shape {array.shape}, not {shape}")
        self.require(not finite or _all_finite(array), f"array '{name}' holds values that are not finite")

    def inputs(self, inputs: list[Value], count: int) -> None:
        """Require so many inputs."""
        self.require(len(inputs) == count, f"takes {count} input(s), not {len(inputs)}")

    def same(self, a: Value, b: Value) -> None:
        """Require two values of one shape."""
        self.require(a.shape == b.shape, f"'{a.name}' and '{b.name}' differ in shape")

    def gate(self, name: str, kind: GateKind, on: Value) -> None:
        """A gate of that kind on a value, if one is named."""
        if not name:
            return
        self.require(name in self.decided, f"gate '{name}' is not decided yet")
        gate = self.gates[name]
        self.require(gate.kind == kind, f"gate '{name}' is {gate.kind}, not {kind}")
        units = 1 if kind == GateKind.SPATIAL else math.ceil(on.channels / gate.group)
        self.require(gate.shape[0] == units, f"gate '{name}' has {gate.shape[0]} units where {units} follow")
        size = (on.height, on.width)
        fits = kind != GateKind.ACTIVATION or gate.shape[1:] == size
        self.require(fits, f"gate '{name}' is not for {size} positions")

    def reach(self, reach: Any, *, dilates: bool) -> None:
        """Require (rows, columns) by which a mask is dilated; of what has no mask of tiles, none."""
        self.extents(*(n + 1 for n in reach))
        self.require(len(reach) == 2 and max(reach) <= MOST_EXTENT, f"a reach of {reach}")
        self.require(dilates or tuple(reach) == (0, 0), f"a reach of {reach} without a spatial gate")

    def window(self, kernel: Any, stride: Any, dilation: Any, padding: Any) -> None:
        """Require a kernel and its movement that are not absurdly large."""
        self.extents(*kernel, *stride, *dilation)
        self.extents(*(p + 1 for p in padding))
        self.require(max(*kernel, *stride, *dilation, *padding) <= MOST_EXTENT, "a geometry out of range")
        self.require(
            kernel[0] * kernel[1] <= _MOST_KERNEL,
            f"a kernel of more than {_MOST_KERNEL} positions; average the maps that it reads",
        )

    def optional(self, arrays: tuple[str, ...], channels: int) -> None:
        """Require an array [channels] for each name that is not empty."""
        for name in filter(None, arrays):
            self.array(name, channels)

    def divided(self, parts: int, x: Value, out: Value) -> None:
        """Require channels that can be cut into so many equal parts."""
        self.extents(parts)
        whole = x.channels % parts == 0 and out.channels % parts == 0
        self.require(whole, f"{parts} groups do not divide {x.channels} and {out.channels} channels")

    def size(self, op: Operation, inputs: list[Value], out: Value) -> None:
        """Require the output's height and width to be those that follow from the inputs'; see `extents.size_of`."""
        expected = size_of(op, self.program, [(value.height, value.width) for value in inputs])
        found = (out.height, out.width)
        self.require(found == expected, f"an output of {found} where {expected} follow")


def _all_finite(array: np.ndarray) -> bool:
    return bool((array & 0x7F80 != 0x7F80).all() if array.dtype == np.uint16 else np.isfinite(array).all())
