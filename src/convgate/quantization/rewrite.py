"""Writes the program of integers: operations in their integer forms, with what lies between these and float32."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from convgate.engine.integer import multiplier_and_shift
from convgate.engine.program import (
    Activate,
    Activation,
    Add,
    Complete,
    Completing,
    Conv,
    Decide,
    Dequantize,
    Element,
    IntegerAdd,
    IntegerComplete,
    IntegerConv,
    IntegerConvToFloat,
    IntegerConvToSums,
    IntegerDecide,
    IntegerMean,
    Lookup,
    Operation,
    PoolToGrid,
    Program,
    Quantize,
    Value,
    references,
)
from convgate.quantization.encodings import Encoding
from convgate.quantization.functions import clamp_of, table
from convgate.quantization.partial import PartialSums
from convgate.quantization.roles import Roles
from convgate.quantization.units import weight_units

__all__ = ["rewrite"]


def rewrite(program: Program, roles: Roles, encodings: Mapping[str, Encoding]) -> Program:
    """The program of integers that computes what a float32 program does, up to rounding and clipping."""
    return _Rewriting(program, roles, encodings).program()


@dataclass
class _Rewriting:
    source: Program
    roles: Roles
    encodings: Mapping[str, Encoding]
    values: list[Value] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    integers: dict[str, Value] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)

    def program(self) -> Program:
        source = self.source
        for name in source.inputs:
            self._float(source.value(name))
        for op in source.operations:
            if isinstance(op, Decide):
                self._decide(op)
            elif op.output in self.roles.sums:
                self._partial(self.roles.sums[op.output])
            elif op.output not in self.roles.integers:
                self._keep(op)
            elif isinstance(op, Complete):
                self._complete(self.roles.sums[op.inputs[1]])
            elif isinstance(op, Conv):
                self._conv(op)
            elif isinstance(op, Add):
                self._add(op)
            elif isinstance(op, Activate):
                read, out = self._as_integers(op.inputs[0]), self._integer(op.output)
                self.arrays[f"{op.output}.table"] = table(op.activation, read, out)
                self.operations.append(Lookup((read.name,), out.name, f"{op.output}.table"))
            elif isinstance(op, PoolToGrid):
                read = self._as_integers(op.inputs[0])
                self._float(source.value(op.output))
                self.operations.append(IntegerMean((read.name,), op.output, op.grid, op.mask))
            else:
                inputs = tuple(self._as_integers(name).name for name in op.inputs)
                self.operations.append(replace(op, inputs=inputs, output=self._integer(op.output).name))
        outputs = {name: self._as_float(name) for name in source.outputs}
        used = {name for op in self.operations for name in references(op, "array")}
        return replace(
            source,
            values=tuple(self.values),
            operations=tuple(self.operations),
            outputs=tuple(outputs[name] for name in source.outputs),
            vectors=tuple(outputs[name] for name in source.vectors),
            arrays={name: array for name, array in {**source.arrays, **self.arrays}.items() if name in used},
        )

    def _float(self, value: Value) -> None:
        self.values.append(value)
        self.floats[value.name] = value.name

    def _integer(self, name: str, own: str = "") -> Value:
        """A value of integers that stand for the value of that name, by the same name or one of its own."""
        encoding = self.encodings[name]
        value = replace(self.source.value(name), name=own or name, element=encoding.element, scale=encoding.scale)
        self.values.append(value)
        self.integers[name] = value
        return value

    def _as_integers(self, name: str) -> Value:
        if name not in self.integers:
            value = self._integer(name, f"{name} as integers")
            self.operations.append(Quantize((self.floats[name],), value.name))
        return self.integers[name]

    def _as_float(self, name: str) -> str:
        if name not in self.floats:
            value = replace(self.source.value(name), name=f"{name} as float32")
            self.values.append(value)
            self.operations.append(Dequantize((self.integers[name].name,), value.name))
            self.floats[name] = value.name
        return self.floats[name]

    def _keep(self, op: Operation) -> None:
        op = replace(op, inputs=tuple(self._as_float(name) for name in op.inputs))
        self.operations.append(op)
        if not isinstance(op, Decide):
            self._float(self.source.value(op.output))

    def _decide(self, op: Decide) -> None:
        parts = self.roles.sums.get(op.inputs[0])
        if parts is None:
            self._keep(op)
            return
        name = op.output
        units = parts.units(self.source, self._as_integers(parts.reads[0]).scale)
        self.arrays[f"{name}.offset.integers"], self.arrays[f"{name}.scale"] = parts.offsets(self.source, units)
        self.operations.append(
            IntegerDecide(op.inputs, name, f"{name}.offset.integers", scale=f"{name}.scale", strict=op.strict)
        )

    def _partial(self, parts: PartialSums) -> None:
        op, name = parts.base, parts.base.output
        read = self._as_integers(op.inputs[0])
        units = parts.units(self.source, read.scale)
        own: dict[str, Any] = {part.name: getattr(op, part.name) for part in fields(Conv)}
        own |= {"weight": f"{name}.weight.integers", "inputs": (read.name,)}
        self.arrays[own["weight"]] = _rounded(self.source.arrays[op.weight], units / read.scale)
        if op.bias:
            own["bias"] = f"{name}.bias.integers"
            self.arrays[own["bias"]] = np.rint(self.source.arrays[op.bias] / units).astype(np.int32)
        self.values.append(replace(self.source.value(name), element=Element.INT32))
        self.operations.append(IntegerConvToSums(**own))

    def _complete(self, parts: PartialSums) -> None:
        op, name = parts.complete, parts.complete.output
        read, out = self._as_integers(op.inputs[0]), self._integer(name)
        units = parts.units(self.source, read.scale)
        own: dict[str, Any] = {part.name: getattr(op, part.name) for part in fields(Completing)}
        own |= {"weight": f"{name}.weight.integers", "inputs": (read.name, op.inputs[1])}
        self.arrays[own["weight"]] = _rounded(self.source.arrays[op.weight], units / read.scale)
        for prefix in ("", "open_"):
            following = parts.following(self.source, units, out.scale, opened=bool(prefix))
            for field_of in fields(following):
                key = prefix + field_of.name
                own[key] = f"{name}.{key}.integers"
                self.arrays[own[key]] = getattr(following, field_of.name)
        if len(op.inputs) > 2:
            addend = self._as_integers(op.inputs[2])
            own |= {"inputs": (*own["inputs"], addend.name), "addend": _pair(addend.scale / out.scale)}
        own["low"], own["high"] = _clamp(op.activation, out)
        self.operations.append(IntegerComplete(**own))

    def _conv(self, op: Conv) -> None:
        read = self._as_integers(op.inputs[0])
        weight, bias, scale = self._weights(op, read.scale)
        name = op.output
        self.arrays[f"{name}.weight.integers"] = weight
        own: dict[str, Any] = {part.name: getattr(op, part.name) for part in fields(Conv)}
        own |= {"weight": f"{name}.weight.integers", "inputs": (read.name,), "activation": Activation()}
        if bias is not None:
            self.arrays[f"{name}.bias.integers"], own["bias"] = bias, f"{name}.bias.integers"
        if name in self.roles.to_float:
            self._conv_to_float(op, own, scale)
            return
        out = self._integer(name)
        ratio = scale / out.scale
        self.arrays[f"{name}.multiplier"], self.arrays[f"{name}.shift"] = multiplier_and_shift(ratio)
        own |= {"multiplier": f"{name}.multiplier", "shift": f"{name}.shift"}
        if len(op.inputs) > 1:
            addend = self._as_integers(op.inputs[1])
            own |= {"inputs": (read.name, addend.name), "addend": _pair(addend.scale / out.scale)}
        own["low"], own["high"] = _clamp(op.activation, out)
        self.operations.append(IntegerConv(**own))

    def _conv_to_float(self, op: Conv, own: dict[str, Any], scale: np.ndarray) -> None:
        self.arrays[f"{op.output}.scale"] = scale.astype(np.float32)
        value = self.source.value(op.output)
        if op.activation:
            value = replace(value, name=f"{op.output} before {op.activation.name}")
            own["output"] = value.name
        self._float(value)
        self.operations.append(IntegerConvToFloat(**own, scale=f"{op.output}.scale"))
        if op.activation:
            self._float(self.source.value(op.output))
            self.operations.append(Activate((value.name,), op.output, op.activation))

    def _weights(self, op: Conv, scale: float) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Weights int8 and bias int32, and the unit of each output channel's sums, float64."""
        weight = self.source.arrays[op.weight].astype(np.float64)
        bias = self.source.arrays[op.bias].astype(np.float64) if op.bias else None
        units = weight_units([weight], bias, scale)
        rounded = _rounded(weight, units)
        return rounded, None if bias is None else np.rint(bias / (units * scale)).astype(np.int32), units * scale

    def _add(self, op: Add) -> None:
        reads = [self._as_integers(name) for name in op.inputs]
        out = self._integer(op.output)
        pairs = [_pair(read.scale / out.scale) for read in reads]
        multipliers, shifts = zip(*pairs, strict=True)
        low, high = _clamp(op.activation, out)
        inputs = tuple(read.name for read in reads)
        self.operations.append(IntegerAdd(inputs, out.name, multipliers, shifts, low, high))


def _rounded(weight: np.ndarray, units: np.ndarray) -> np.ndarray:
    """int8: weights in the units of each output channel."""
    return np.clip(np.rint(weight / units[:, None, None, None]), -127, 127).astype(np.int8)


def _pair(ratio: float) -> tuple[int, int]:
    multiplier, shift = multiplier_and_shift(ratio)
    return int(multiplier), int(shift)


def _clamp(activation: Activation, out: Value) -> tuple[int, int]:
    limits = clamp_of(activation)
    assert limits is not None
    low, high = (float(np.clip(limit / out.scale, *out.element.limits)) for limit in limits)
    return round(low), round(high)
