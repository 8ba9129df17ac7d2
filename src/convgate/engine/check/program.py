"""Does a program hold together? Names, sizes, gates and results, and each operation by its rule."""

from typing import Any

from convgate.engine.check import integers as _integers  # noqa: F401 -- registers its rules
from convgate.engine.check.checker import MOST_CHANNELS, MOST_EXTENT, MOST_POSITIONS, Checker
from convgate.engine.check.elements import check_elements
from convgate.engine.check.rules import rule
from convgate.engine.outputs import Rows
from convgate.engine.program import (
    ACTIVATIONS,
    NO_ACTIVATION,
    Activation,
    Completing,
    Constant,
    Conv,
    Decide,
    Element,
    External,
    GateKind,
    Operation,
    Pool,
    Program,
    Value,
    decides,
    references,
)

__all__ = ["check"]

_MOST_ELEMENTS = (1 << 31) - 1
_MOST_DEPTH = 16
_MOST_BORDERS = 1 << 28
"""Elements of the borders around all maps, plus 16 for each element of a map: files of a few bytes ask for no more."""
_MOST_POSITIONS_TOGETHER = 1 << 27
"""Of all values: each operation has a few numbers for each position that it writes."""
_KINDS = tuple(GateKind)


def check(program: Program) -> None:
    """Raise `ProgramError` unless names resolve, shapes agree and every gate is decided before it is used."""
    _Check(program).run()


class _Check(Checker):
    def _preparation(self) -> None:
        """Images are prepared as the network takes them, and its classes are as many as its outputs."""
        preparation = self.program.preparation
        if preparation is None:
            return
        taken = self.values.get(self.program.inputs[0])
        self.require(
            taken is not None and taken.channels == len(preparation.mean), "images are prepared with other channels"
        )
        classes, vectors = len(preparation.classes), self.program.vectors
        if classes and len(self.program.outputs) == 1 and len(vectors) == 1:
            given = self.values.get(vectors[0])
            self.require(
                given is not None and given.channels == classes, "there are more or fewer classes than outputs"
            )

    def run(self) -> None:
        """Check all of it. Raises `ProgramError`."""
        program = self.program
        self.require(len(self.values) == len(program.values), "two values have the same name")
        self.require(len(self.gates) == len(program.gates), "two gates have the same name")
        self.require(len(set(program.layers)) == len(program.layers), "two layers have the same name")
        self.require(bool(program.inputs) and bool(program.outputs or program.foreign), "no inputs or no outputs")
        self._preparation()
        for value in program.values:
            self.place = f"value '{value.name}'"
            self.extents(value.channels, value.height, value.width)
            positions = value.height * value.width
            small = positions <= MOST_POSITIONS and value.channels <= MOST_CHANNELS
            self.require(small and positions * value.channels <= _MOST_ELEMENTS, "too large")
            self._elements(value)
        self.place = "the program"
        elements = sum(value.channels * value.height * value.width for value in program.values)
        self.require(elements <= _MOST_ELEMENTS, "its values are too large together")
        positions = sum(value.height * value.width for value in program.values)
        self.require(positions <= _MOST_POSITIONS_TOGETHER, "its values have too many positions together")
        for gate in program.gates:
            self.place = f"gate '{gate.name}'"
            self.require(gate.kind in _KINDS, f"of kind {gate.kind!r}; known are {', '.join(_KINDS)}")
            self.require(len(gate.shape) == 3, f"of shape {gate.shape}; units, rows, columns")
            self.extents(*gate.shape, gate.group)
            self.extents(*(side + 1 for side in gate.sides))
            self.require(not gate.on or gate.on in self.values, f"is on '{gate.on}', which does not exist")
            units, rows, columns = gate.shape
            self.require(rows * columns <= MOST_POSITIONS and units * rows * columns <= _MOST_ELEMENTS, "too large")
            self.require(gate.kind != GateKind.SPATIAL or units == 1, "a spatial gate is for all channels")
            self.require(gate.kind != GateKind.CHANNEL or rows == columns == 1, "a channel gate is for all positions")
        for name in program.inputs:
            self.place = f"input '{name}'"
            self.require(name in self.values and name not in self.written, "does not exist, or is named twice")
            self.require(not self.values[name].element.is_integer, "holds integers; inputs are float32")
            self.written.add(name)
        self._borders(elements)
        for number, operation in enumerate(program.operations):
            self.place = f"operation {number} ({type(operation).__name__} -> '{operation.output}')"
            self._operation(operation)
        for name in program.outputs:
            self.place = f"output '{name}'"
            self.require(name in self.written, "is never written")
            element = self.values[name].element
            self.require(element is Element.FLOAT32, f"holds {element}; outputs are float32")
        for name in program.vectors:
            self.place = f"vector '{name}'"
            self.require(name in program.outputs, "is not an output")
            self.require(self.values[name].height == self.values[name].width == 1, "is a map, not 1x1")
        self.place = "what it returns"
        self._returned(program.returns, len(program.outputs) + len(program.foreign))
        undecided = [name for name in self.gates if name not in self.decided]
        self.place = "the program"
        self.require(not undecided, f"gates that nothing decides: {', '.join(undecided[:9])}")
        unwritten = [name for name in self.values if name not in self.written]
        self.require(not unwritten, f"values that nothing writes: {', '.join(unwritten[:9])}")

    def _elements(self, value: Value) -> None:
        self.require(value.element in tuple(Element), f"of elements {value.element!r}; known are {', '.join(Element)}")
        fits = isinstance(value.scale, float | int) and 1e-30 <= value.scale <= 1e30
        self.require(fits, f"a scale of {value.scale!r}")
        self.require(value.element.is_byte or value.scale == 1, f"a scale of {value.element}, which is not scaled")

    def _borders(self, elements: int) -> None:
        """Convolutions read their inputs inside borders as wide as their padding; these are memory, too."""
        self.place = "the program"
        widths: dict[str, list[int]] = {}
        for operation in self.program.operations:
            if isinstance(operation, Conv | Completing | Pool) and operation.inputs:
                around = widths.setdefault(operation.inputs[0], [0, 0, 0, 0])
                for side, padding in enumerate((*operation.padding, *operation.padding)[:4]):
                    self.require(isinstance(padding, int) and 0 <= padding <= MOST_EXTENT, "a padding out of range")
                    around[side] = max(around[side], padding)
        borders = 0
        for name, (top, left, bottom, right) in widths.items():
            value = self.values.get(name)
            if value is not None:
                padded = (value.height + top + bottom) * (value.width + left + right)
                borders += value.channels * (padded - value.height * value.width)
        self.require(
            borders <= _MOST_BORDERS + 16 * elements, f"paddings of {borders:,} elements, which no use of padding needs"
        )

    def _returned(self, part: Any, count: int, depth: int = 0) -> None:
        self.require(depth <= _MOST_DEPTH, "is nested too deeply")
        if isinstance(part, tuple | dict):
            for inner in part.values() if isinstance(part, dict) else part:
                self._returned(inner, count, depth + 1)
        elif isinstance(part, Rows):
            outputs = self.program.outputs
            self.require(bool(part.outputs) and part.of >= 1, f"{part} is nothing")
            for index in part.outputs:
                self.require(0 <= index < len(outputs), f"has no output {index!r}")
                name = outputs[index]
                whole = self.values[name].channels % part.of == 0
                self.require(whole and name not in self.program.vectors, f"'{name}' has no {part}")
        elif part is not None:
            number = isinstance(part, int) and not isinstance(part, bool)
            self.require(number and 0 <= part < count, f"has no output {part!r}")

    def _operation(self, operation: Operation) -> None:
        for name in references(operation, "layer"):
            self.require(name in self.layers, f"layer '{name}' is not in the ledger")
        if isinstance(operation, External):
            self._external(operation)
            return
        self.require(bool(operation.inputs) != isinstance(operation, Constant), f"{len(operation.inputs)} inputs")
        for name in operation.inputs:
            self.require(name in self.written, f"reads '{name}' before it is written")
        inputs = [self.values[name] for name in operation.inputs]
        if isinstance(operation, Decide):
            check_elements(operation, self, inputs, None)
            rule(operation, self, inputs, None)
            return
        self.require(operation.output in self.values, "writes a value that does not exist")
        self.require(operation.output not in self.written, "writes a value twice")
        self._activation(getattr(operation, "activation", NO_ACTIVATION))
        check_elements(operation, self, inputs, self.values[operation.output])
        rule(operation, self, inputs, self.values[operation.output])
        self.written.add(operation.output)

    def _activation(self, activation: Any) -> None:
        self.require(isinstance(activation, Activation), f"{activation!r} is not an Activation")
        known = ACTIVATIONS.get(activation.name)
        self.require(known is not None, f"activation {activation.name!r}; known are {', '.join(ACTIVATIONS)}")
        given = activation.parameters
        self.require(
            len(given) == len(known or ()), f"{activation.name} takes {len(known or ())} parameters, not {given}"
        )
        numbers = all(isinstance(n, float | int) and not isinstance(n, bool) and n == n for n in given)
        self.require(numbers, f"parameters {given} of {activation.name} that are not numbers")

    def _external(self, op: External) -> None:
        for name in op.inputs:
            self.require(name in self.written, f"reads '{name}' before it is written")
            element = self.values[name].element
            self.require(element is Element.FLOAT32, f"takes float32, and '{name}' holds {element}")
        for name in op.gates:
            self.require(name in self.decided, f"gate '{name}' is not decided yet")
        for name in decides(op):
            self.require(name in self.gates, "decides a gate that does not exist")
            self.require(name not in self.decided, "decides a gate twice")
            self.decided.add(name)
        if op.output:
            self.require(
                op.output in self.values and op.output not in self.written,
                "writes a value that does not exist or is written already",
            )
            self.require(self.values[op.output].element is Element.FLOAT32, "writes float32")
            self.written.add(op.output)
