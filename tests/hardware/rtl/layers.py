"""Random programs of two convolutions of 8-bit integers, gated by positions and channels, for the tests of the RTL."""

import numpy as np

from convgate.engine.check import check
from convgate.engine.integer import multiplier_and_shift
from convgate.engine.program import (
    Conv,
    Decide,
    Element,
    Gate,
    GateKind,
    IntegerConv,
    IntegerConvToFloat,
    IntegerMean,
    Program,
    Quantize,
    Value,
)


def random_program(rng):
    """x -> a (gated positions, gated outputs) -> b (the same positions, those channels as inputs), to which a map is
    added; then a layer that writes sums. Geometry, signs, scales and gates at random."""
    whole = lambda low, high: int(rng.integers(low, high + 1))  # noqa: E731
    size = whole(3, 9), whole(3, 9)
    channels, middle = whole(1, 11), whole(1, 11)
    kernel, stride, dilation = (whole(1, 3), whole(1, 3)), (whole(1, 2), whole(1, 2)), (whole(1, 2), whole(1, 2))
    padding = tuple(whole(0, 2) for _ in range(4))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    out = [(size[i] + padding[i] + padding[i + 2] - reach[i]) // stride[i] + 1 for i in range(2)]
    if min(out) < 1:
        return random_program(rng)
    kinds = [Element.UINT8, Element.INT8]
    x, y, z = (Value(n, c, *s, kinds[whole(0, 1)], 0.5) for n, c, s in (
        ("x", channels, size), ("y", middle, out), ("z", channels, out)
    ))  # fmt: skip
    same, added = tuple(size) == tuple(out), whole(0, 2)
    group = whole(1, 3)
    units = -(-middle // group)
    tiles = whole(1, out[0]), whole(1, out[1])
    arrays, values, operations = {}, [Value("images", channels, *size), x], [Quantize(("images",), "x")]

    def scales(name, count):
        ratio = rng.random(count) * 2.0 ** float(rng.integers(-9, -3))
        arrays[f"{name}.multiplier"], arrays[f"{name}.shift"] = multiplier_and_shift(ratio)
        arrays[f"{name}.bias"] = rng.integers(-3000, 3000, count).astype(np.int32)
        return {"bias": f"{name}.bias", "multiplier": f"{name}.multiplier", "shift": f"{name}.shift", "layer": name}

    def weights(name, *shape):
        arrays[f"{name}.weight"] = rng.integers(-127, 128, shape).astype(np.int8)
        return f"{name}.weight"

    def limits(value):
        low, high = value.element.limits
        return {"low": int(rng.integers(low, 1)), "high": int(rng.integers(1, high + 1))}

    gates = []
    if whole(0, 3):
        gates.append(Gate("places", GateKind.SPATIAL, (1, *tiles)))
        decided(gates[-1], channels, arrays, values, operations, rng)
    if whole(0, 3):
        gates.append(Gate("parts", GateKind.CHANNEL, (units, 1, 1), group))
        decided(gates[-1], channels, arrays, values, operations, rng)
    names = [gate.name for gate in gates]
    places, parts = ("places" if "places" in names else ""), ("parts" if "parts" in names else "")
    operations.append(IntegerConv(
        ("x",), "y", weights("a", middle, channels, *kernel), **scales("a", middle), stride=stride, padding=padding,
        dilation=dilation, positions=places, out_channels=parts, **limits(y),
    ))  # fmt: skip
    values.append(y)
    inputs = ["y"]
    if added and same:
        inputs.append("x")
    elif added:
        values.append(Value("w", channels, *out, kinds[whole(0, 1)], 0.5))
        operations.append(IntegerConv(
            ("x",), "w", weights("c", channels, channels, *kernel), **scales("c", channels), stride=stride,
            padding=padding, dilation=dilation, **limits(values[-1]),
        ))  # fmt: skip
        inputs.append("w")
    addend = {"addend": (1 << 14, 14) if added == 1 else (whole(1, 32767), whole(9, 16))} if added else {}
    through = limits(z)
    if added == 1 and whole(0, 1):  # what is closed may stay where it is
        z = Value("z", channels, *out, (x if same else values[-1]).element, 0.5)
        through = dict(zip(("low", "high"), z.element.limits, strict=True))
    operations.append(IntegerConv(
        tuple(inputs), "z", weights("b", channels, middle, 3, 3), **scales("b", channels), padding=(1, 1, 1, 1),
        positions=places, in_channels=parts, **addend, **through,
    ))  # fmt: skip
    last = whole(1, 9)
    arrays["d.scale"] = rng.random(last).astype(np.float32)
    sums = scales("d", last)
    operations.append(IntegerConvToFloat(
        ("z",), "end", weights("d", last, channels, *out), sums["bias"], "d", scale="d.scale"
    ))  # fmt: skip
    values += [z, Value("end", last, 1, 1)]
    for name in ("d.multiplier", "d.shift"):
        del arrays[name]
    layers = tuple(op.layer for op in operations if isinstance(op, Conv) and op.layer)
    program = Program(tuple(values), tuple(gates), tuple(operations), ("images",), ("end",), arrays, layers)
    check(program)
    return program


def decided(gate, channels, arrays, values, operations, rng):
    """Adds a head for a gate: means of x, a linear layer, a decision."""
    units, rows, columns = gate.shape
    arrays[f"{gate.name}.weight"] = rng.standard_normal((units, channels, 1, 1)).astype(np.float32)
    arrays[f"{gate.name}.offset"] = np.zeros(gate.shape, np.float32)
    values += [Value(f"{gate.name} means", channels, rows, columns), Value(f"{gate.name} logits", *gate.shape)]
    operations += [
        IntegerMean(("x",), f"{gate.name} means", grid=(rows, columns)),
        Conv((f"{gate.name} means",), f"{gate.name} logits", f"{gate.name}.weight", "", f"{gate.name} head"),
        Decide((f"{gate.name} logits",), gate.name, f"{gate.name}.offset"),
    ]


def random_masks(program, count, rng):
    """Masks by gate, from all closed to all open."""
    return {
        gate.name: (
            rng.random((count, *gate.shape)) < rng.choice([0.0, 0.06, 0.15, 0.3, 0.6, 1.0], (count, 1, 1, 1))
        ).astype(np.uint8)
        for gate in program.gates
    }
