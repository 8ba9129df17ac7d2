"""Does a program hold together? Every rule that the runtime relies on, with errors that name the operation."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convgate.engine.program import (
    ACTIVATIONS,
    NO_ACTIVATION,
    Activate,
    Activation,
    Add,
    Affine,
    Arithmetic,
    Complete,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Decide,
    External,
    GateKind,
    GroupNorm,
    Interpolate,
    LayerNorm,
    Mask,
    Multiply,
    Operation,
    OverChannels,
    Pad,
    Pick,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    PoolToGrid,
    PRelu,
    Program,
    Reshape,
    Slice,
    Softmax,
    Value,
    decides,
    references,
)
from convgate.errors import ProgramError

__all__ = ["MOST_POSITIONS", "check"]

MOST_POSITIONS = 1 << 20
"""Positions of one value, and extents of any kind: more is a mistake, or an attempt to exhaust memory."""

_MOST_CHANNELS = 1 << 24
_MOST_ELEMENTS = 1 << 31
_MOST_KERNEL = 4096
_MOST_DEPTH = 16
_MOST_BORDERS = 1 << 28
"""Elements of the borders around all maps, plus 16 for each element of a map: files of a few bytes ask for no more."""
_MOST_POSITIONS_TOGETHER = 1 << 27
"""Of all values: each operation has a few numbers for each position that it writes."""
_KINDS = tuple(GateKind)


def check(program: Program) -> None:
    """Raise `ProgramError` unless names resolve, shapes agree and every gate is decided before it is used."""
    _Check(program).run()


class _Check:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.values = {value.name: value for value in program.values}
        self.gates = {gate.name: gate for gate in program.gates}
        self.layers = frozenset(program.layers)
        self.written: set[str] = set()
        self.decided: set[str] = set()
        self.place = "the program"

    def require(self, condition: bool, what: str) -> None:
        if not condition:
            raise ProgramError(f"{self.place}: {what}")

    def preparation(self) -> None:
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
        program = self.program
        self.require(len(self.values) == len(program.values), "two values have the same name")
        self.require(len(self.gates) == len(program.gates), "two gates have the same name")
        self.require(len(set(program.layers)) == len(program.layers), "two layers have the same name")
        self.require(bool(program.inputs) and bool(program.outputs or program.foreign), "no inputs or no outputs")
        self.preparation()
        for value in program.values:
            self.place = f"value '{value.name}'"
            self._extents(value.channels, value.height, value.width)
            positions = value.height * value.width
            small = positions <= MOST_POSITIONS and value.channels <= _MOST_CHANNELS
            self.require(small and positions * value.channels <= _MOST_ELEMENTS, "too large")
        self.place = "the program"
        elements = sum(value.channels * value.height * value.width for value in program.values)
        self.require(elements <= _MOST_ELEMENTS, "its values are too large together")
        positions = sum(value.height * value.width for value in program.values)
        self.require(positions <= _MOST_POSITIONS_TOGETHER, "its values have too many positions together")
        for gate in program.gates:
            self.place = f"gate '{gate.name}'"
            self.require(gate.kind in _KINDS, f"of kind {gate.kind!r}; known are {', '.join(_KINDS)}")
            self.require(len(gate.shape) == 3, f"of shape {gate.shape}; units, rows, columns")
            self._extents(*gate.shape, gate.group)
            self._extents(*(side + 1 for side in gate.sides))
            self.require(not gate.on or gate.on in self.values, f"is on '{gate.on}', which does not exist")
            units, rows, columns = gate.shape
            self.require(rows * columns <= MOST_POSITIONS and units * rows * columns <= _MOST_ELEMENTS, "too large")
            self.require(gate.kind != GateKind.SPATIAL or units == 1, "a spatial gate is for all channels")
            self.require(gate.kind != GateKind.CHANNEL or rows == columns == 1, "a channel gate is for all positions")
        for name in program.inputs:
            self.place = f"input '{name}'"
            self.require(name in self.values and name not in self.written, "does not exist, or is named twice")
            self.written.add(name)
        self._borders(elements)
        for number, operation in enumerate(program.operations):
            self.place = f"operation {number} ({type(operation).__name__} -> '{operation.output}')"
            self._operation(operation)
        for name in program.outputs:
            self.place = f"output '{name}'"
            self.require(name in self.written, "is never written")
        for name in program.vectors:
            self.place = f"vector '{name}'"
            self.require(name in program.outputs, "is no output")
            self.require(self.values[name].height == self.values[name].width == 1, "is a map, not 1x1")
        self.place = "what it returns"
        self._returned(program.returns, len(program.outputs) + len(program.foreign))
        undecided = [name for name in self.gates if name not in self.decided]
        self.place = "the program"
        self.require(not undecided, f"gates that nothing decides: {', '.join(undecided[:9])}")
        unwritten = [name for name in self.values if name not in self.written]
        self.require(not unwritten, f"values that nothing writes: {', '.join(unwritten[:9])}")

    def _borders(self, elements: int) -> None:
        """Convolutions read their inputs inside borders as wide as their padding; these are memory, too."""
        self.place = "the program"
        widths: dict[str, list[int]] = {}
        for operation in self.program.operations:
            if isinstance(operation, Conv | Complete | Pool) and operation.inputs:
                around = widths.setdefault(operation.inputs[0], [0, 0, 0, 0])
                for side, padding in enumerate((*operation.padding, *operation.padding)[:4]):
                    self.require(isinstance(padding, int) and 0 <= padding <= MOST_POSITIONS, "a padding out of range")
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
        elif part is not None:
            number = isinstance(part, int) and not isinstance(part, bool)
            self.require(number and 0 <= part < count, f"has no output {part!r}")

    def _extents(self, *numbers: Any) -> None:
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
        self.require(whole and all(1 <= n <= _MOST_CHANNELS for n in numbers), f"sizes {numbers} out of range")

    def _operation(self, operation: Operation) -> None:
        rule = _RULES.get(type(operation))
        self.require(rule is not None, "an unknown kind of operation")
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
            self._decide(operation, inputs)
            return
        self.require(operation.output in self.values, "writes a value that does not exist")
        self.require(operation.output not in self.written, "writes a value twice")
        self._activation(getattr(operation, "activation", NO_ACTIVATION))
        assert rule is not None
        rule(self, operation, inputs, self.values[operation.output])
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

    def _array(self, name: str, *shape: int, finite: bool = True) -> None:
        array = self.program.arrays.get(name)
        self.require(array is not None, f"array '{name}' does not exist")
        assert array is not None
        self.require(array.dtype == np.float32, f"array '{name}' is {array.dtype}, not float32")
        self.require(array.shape == shape, f"array '{name}' has shape {array.shape}, not {shape}")
        self.require(not finite or bool(np.isfinite(array).all()), f"array '{name}' holds values that are not finite")

    def _inputs(self, inputs: list[Value], count: int) -> None:
        self.require(len(inputs) == count, f"takes {count} input(s), not {len(inputs)}")

    def _same(self, a: Value, b: Value) -> None:
        alike = a.shape == b.shape
        self.require(alike, f"'{a.name}' and '{b.name}' differ in shape")

    def _gate(self, name: str, kind: GateKind, on: Value) -> None:
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

    def _window(self, kernel: Any, stride: Any, dilation: Any, padding: Any) -> None:
        self._extents(*kernel, *stride, *dilation)
        self._extents(*(p + 1 for p in padding))
        self.require(max(*kernel, *stride, *dilation, *padding) <= MOST_POSITIONS, "a geometry out of range")
        self.require(kernel[0] * kernel[1] <= _MOST_KERNEL, "a kernel too large")

    def _decide(self, op: Decide, inputs: list[Value]) -> None:
        self._inputs(inputs, 1)
        self.require(op.output in self.gates, "decides a gate that does not exist")
        self.require(op.output not in self.decided, "decides a gate twice")
        gate, logits = self.gates[op.output], inputs[0]
        by_activation = gate.kind == GateKind.ACTIVATION
        units = math.ceil(logits.channels / gate.group) if by_activation else logits.channels
        fits = (units, logits.height, logits.width) == gate.shape
        self.require(fits, f"logits of another shape than {gate.shape}")
        offset = self.program.arrays.get(op.offset)
        everywhere = gate.kind == GateKind.SPATIAL and offset is not None and offset.shape == (1, 1, 1)
        self._array(op.offset, *((1, 1, 1) if everywhere else gate.offset_shape))
        self.require(by_activation or not (op.scale or op.shift), "scales or shifts the logits of no activation gate")
        self._optional((op.scale, op.shift), logits.channels)
        self.decided.add(op.output)

    def _optional(self, arrays: tuple[str, ...], channels: int) -> None:
        for name in filter(None, arrays):
            self._array(name, channels)

    def _conv(self, op: Conv, inputs: list[Value], out: Value) -> None:
        self.require(len(inputs) in (1, 2), f"takes 1 or 2 inputs, not {len(inputs)}")
        x = inputs[0]
        self._divided(op.groups, x, out)
        self._convolution(op, x, x.channels // op.groups, out)
        if op.bias:
            self._array(op.bias, out.channels)
        if len(inputs) == 2:
            self._same(inputs[1], out)
        self._gate(op.positions, GateKind.SPATIAL, out)
        self._gate(op.in_channels, GateKind.CHANNEL, x)
        self._gate(op.out_channels, GateKind.CHANNEL, out)
        masked = bool(op.positions or op.out_channels)
        self.require(op.activation.keeps_zero or not masked, f"{op.activation} of a masked convolution")

    def _complete(self, op: Complete, inputs: list[Value], out: Value) -> None:
        self.require(len(inputs) in (2, 3), f"takes 2 or 3 inputs, not {len(inputs)}")
        x = inputs[0]
        self._divided(op.parts, x, out)
        self._convolution(op, x, x.channels - (x.channels // op.parts if op.parts > 1 else 0), out)
        for other in inputs[1:]:
            self._same(other, out)
        self._optional((op.scale, op.shift, op.open_scale, op.open_shift), out.channels)
        self.require(bool(op.gate), "has no gate")
        self._gate(op.gate, GateKind.ACTIVATION, out)

    def _divided(self, parts: int, x: Value, out: Value) -> None:
        self._extents(parts)
        whole = x.channels % parts == 0 and out.channels % parts == 0
        self.require(whole, f"{parts} groups do not divide {x.channels} and {out.channels} channels")

    def _convolution(self, op: Conv | Complete, x: Value, reads: int, out: Value) -> None:
        """The geometry of a convolution each of whose outputs reads so many channels."""
        weight = self.program.arrays.get(op.weight)
        self.require(weight is not None and weight.ndim == 4, f"weights '{op.weight}' are missing or not 4-d")
        assert weight is not None
        kernel = weight.shape[2:]
        self._array(op.weight, out.channels, reads, *kernel)
        self._window(kernel, op.stride, op.dilation, op.padding)
        top, left, bottom, right = op.padding
        around = ((x.height, top + bottom, out.height), (x.width, left + right, out.width))
        for axis, (size, padding, result) in enumerate(around):
            expected = (size + padding - op.dilation[axis] * (kernel[axis] - 1) - 1) // op.stride[axis] + 1
            self.require(result == expected, f"an output of {result} where {expected} follows from the geometry")

    def _pool(self, op: Pool, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        self.require(op.kind in ("max", "average"), f"of kind {op.kind!r}; max or average")
        self._window(op.kernel, op.stride, op.dilation, op.padding)
        x = inputs[0]
        self.require(x.channels == out.channels, "changes the number of channels")
        for axis, (size, result) in enumerate(((x.height, out.height), (x.width, out.width))):
            room = size + 2 * op.padding[axis] - op.dilation[axis] * (op.kernel[axis] - 1) - 1
            floor, ceil = room // op.stride[axis] + 1, -(-room // op.stride[axis]) + 1
            begins = (result - 1) * op.stride[axis] < size + op.padding[axis]
            self.require(result in (floor, ceil) and begins, f"an output of {result} where {floor} or {ceil} follow")

    def _pool_to_grid(self, op: PoolToGrid, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        self.require(inputs[0].channels == out.channels, "changes the number of channels")
        self.require(not op.mask or op.mask in self.gates, f"gate '{op.mask}' does not exist")
        self._extents(*(cells + 1 for cells in op.grid))

    def _activate(self, op: Activate, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        self._same(inputs[0], out)

    def _affine(self, op: Affine, inputs: list[Value], out: Value) -> None:
        self._activate(op, inputs, out)  # type: ignore[arg-type]
        self._array(op.scale, out.channels)
        self._array(op.shift, out.channels)

    def _binary(self, op: Operation, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 2)
        a, b = inputs
        for first, second, result in zip(a.shape, b.shape, out.shape, strict=True):
            spread = {first, second} <= {1, result} and result in (first, second)
            self.require(spread, f"'{a.name}' {a.shape} and '{b.name}' {b.shape} do not make {out.shape}")

    def _arithmetic(self, op: Arithmetic, inputs: list[Value], out: Value) -> None:
        kinds = ("divide", "maximum", "minimum")
        self.require(op.arithmetic in kinds, f"of kind {op.arithmetic!r}; known are {', '.join(kinds)}")
        self._binary(op, inputs, out)

    def _transposed(self, op: ConvTranspose, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        x = inputs[0]
        self._divided(op.groups, x, out)
        weight = self.program.arrays.get(op.weight)
        self.require(weight is not None and weight.ndim == 4, f"weights '{op.weight}' are missing or not 4-d")
        assert weight is not None
        kernel = weight.shape[2:]
        self._array(op.weight, x.channels, out.channels // op.groups, *kernel)
        if op.bias:
            self._array(op.bias, out.channels)
        self._window(kernel, op.stride, op.dilation, (*op.padding, *op.padding))
        for axis, size in enumerate((x.height, x.width)):
            more, most = op.output_padding[axis], max(op.stride[axis], op.dilation[axis])
            self.require(isinstance(more, int) and 0 <= more < most, f"an output padding of {more}")
            reach = (size - 1) * op.stride[axis] - 2 * op.padding[axis] + op.dilation[axis] * (kernel[axis] - 1) + 1
            self.require(out.shape[axis + 1] == reach + more, f"an output of {out.shape[axis + 1]}, not {reach + more}")

    def _pad(self, op: Pad, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        modes = ("constant", "reflect", "replicate", "circular")
        self.require(op.mode in modes, f"of mode {op.mode!r}; known are {', '.join(modes)}")
        whole = all(isinstance(n, int) and not isinstance(n, bool) and abs(n) <= MOST_POSITIONS for n in op.padding)
        self.require(whole and len(op.padding) == 4, f"a padding of {op.padding}")
        x = inputs[0]
        top, left, bottom, right = op.padding
        for size, before, after in ((x.height, top, bottom), (x.width, left, right)):
            most = {"constant": MOST_POSITIONS, "replicate": MOST_POSITIONS, "reflect": size - 1, "circular": size}
            fits = max(before, after) <= most[op.mode] and (op.mode == "constant" or min(before, after) >= 0)
            self.require(fits, f"a {op.mode} padding of {before} and {after} around {size}")
        expected = x.channels, x.height + top + bottom, x.width + left + right
        self.require(expected == out.shape, f"an output of {out.shape} where {expected} follow")

    def _shuffle(self, op: PixelShuffle | PixelUnshuffle, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        deep, wide = (inputs[0], out) if isinstance(op, PixelShuffle) else (out, inputs[0])
        self._extents(op.factor)
        self.require(op.factor <= 1024, f"a factor of {op.factor}")
        expected = deep.channels, deep.height * op.factor, deep.width * op.factor
        found = wide.channels * op.factor**2, wide.height, wide.width
        self.require(expected == found, f"a factor of {op.factor} from {inputs[0].shape} to {out.shape}")

    def _reshape(self, op: Reshape, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        self.require(math.prod(inputs[0].shape) == math.prod(out.shape), "has another number of elements")

    def _norm(self, op: GroupNorm | LayerNorm, inputs: list[Value], out: Value) -> None:
        self._activate(op, inputs, out)  # type: ignore[arg-type]
        self._optional((op.scale, op.shift), out.channels)
        number = isinstance(op.epsilon, float | int) and 0 <= op.epsilon <= 1e6
        self.require(number, f"an epsilon of {op.epsilon!r}")
        if isinstance(op, GroupNorm):
            self._divided(op.groups, out, out)

    def _over_channels(self, op: OverChannels, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        self.require(isinstance(op.maximum, bool), "maximum is not true or false")
        self.require(out.shape == (1, *inputs[0].shape[1:]), "is not one channel of the input's size")

    def _prelu(self, op: PRelu, inputs: list[Value], out: Value) -> None:
        self._activate(op, inputs, out)  # type: ignore[arg-type]
        self._array(op.weight, out.channels)

    def _constant(self, op: Constant, inputs: list[Value], out: Value) -> None:
        self._array(op.weight, *out.shape, finite=False)

    def _interpolate(self, op: Interpolate, inputs: list[Value], out: Value) -> None:
        modes = ("nearest", "nearest-exact", "bilinear")
        self.require(op.mode in modes, f"of mode {op.mode!r}; known are {', '.join(modes)}")
        self.require(len(inputs) in (1, 2), f"takes 1 or 2 inputs, not {len(inputs)}")
        self.require(isinstance(op.align_corners, bool), "align_corners is not true or false")
        scales = all(isinstance(s, float | int) and (s == 0 or 1e-6 <= s <= 1e6) for s in op.scales)
        self.require(len(op.scales) == 2 and scales, f"scales {op.scales} out of range")
        x = inputs[0]
        self.require(x.channels == out.channels, "changes the number of channels")
        if len(inputs) == 2:
            expected: tuple[int, ...] = (inputs[1].height, inputs[1].width)
        elif tuple(op.size) != (0, 0):
            expected = tuple(op.size)
        else:
            expected = tuple(math.floor(n * s) for n, s in zip((x.height, x.width), op.scales, strict=True))
        self.require(expected == (out.height, out.width), f"an output of {out.shape[1:]} where {expected} follow")

    def _concat(self, op: Concat, inputs: list[Value], out: Value) -> None:
        for value in inputs:
            self.require((value.height, value.width) == (out.height, out.width), f"'{value.name}' is of another size")
        self.require(sum(value.channels for value in inputs) == out.channels, "channels do not add up")

    def _slice(self, op: Slice, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        same = (inputs[0].height, inputs[0].width) == (out.height, out.width)
        self.require(same, "changes the size")
        self.require(isinstance(op.begin, int) and abs(op.begin) < _MOST_CHANNELS, "begins out of range")

    def _pick(self, op: Pick, inputs: list[Value], out: Value) -> None:
        self._inputs(inputs, 1)
        same = (inputs[0].height, inputs[0].width) == (out.height, out.width)
        self.require(same and len(op.channels) == out.channels, "does not pick what it writes")
        whole = all(isinstance(c, int) and not isinstance(c, bool) for c in op.channels)
        self.require(whole and all(0 <= c < inputs[0].channels for c in op.channels), "picks channels out of range")

    def _mask(self, op: Mask, inputs: list[Value], out: Value) -> None:
        self._activate(op, inputs, out)  # type: ignore[arg-type]
        self.require(op.gate in self.gates, f"gate '{op.gate}' does not exist")
        self.require(self.gates[op.gate].kind != GateKind.ACTIVATION, f"gate '{op.gate}' of activations is no mask")
        self._gate(op.gate, self.gates[op.gate].kind, out)

    def _external(self, op: External) -> None:
        for name in op.inputs:
            self.require(name in self.written, f"reads '{name}' before it is written")
        for name in op.gates:
            self.require(name in self.decided, f"gate '{name}' is not decided yet")
        for name in decides(op):
            self.require(name in self.gates, "decides a gate that does not exist")
            self.require(name not in self.decided, "decides a gate twice")
            self.decided.add(name)
        if op.output:
            self.require(op.output in self.values and op.output not in self.written, "writes no value of its own")
            self.written.add(op.output)


_RULES: Mapping[type, Callable[..., None]] = {
    Activate: _Check._activate,
    Add: _Check._binary,
    Affine: _Check._affine,
    Arithmetic: _Check._arithmetic,
    Complete: _Check._complete,
    Concat: _Check._concat,
    Constant: _Check._constant,
    Conv: _Check._conv,
    ConvTranspose: _Check._transposed,
    Decide: _Check._decide,
    External: lambda *_: None,
    GroupNorm: _Check._norm,
    Interpolate: _Check._interpolate,
    LayerNorm: _Check._norm,
    Mask: _Check._mask,
    Multiply: _Check._binary,
    OverChannels: _Check._over_channels,
    PRelu: _Check._prelu,
    Pad: _Check._pad,
    Pick: _Check._pick,
    PixelShuffle: _Check._shuffle,
    PixelUnshuffle: _Check._shuffle,
    Pool: _Check._pool,
    PoolToGrid: _Check._pool_to_grid,
    Reshape: _Check._reshape,
    Slice: _Check._slice,
    Softmax: _Check._activate,
}
