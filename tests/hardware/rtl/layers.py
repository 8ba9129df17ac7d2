"""Random programs of 8-bit integers for tests of the RTL: gated convolutions, and partial sums with completions."""

import numpy as np

from convgate.engine.check import check
from convgate.engine.integer import multiplier_and_shift
from convgate.engine.program import (
    Conv,
    Decide,
    Element,
    Gate,
    GateKind,
    IntegerComplete,
    IntegerConv,
    IntegerConvToFloat,
    IntegerConvToSums,
    IntegerDecide,
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


def random_completion(rng, rows, columns):
    """x -> sums -> a decision on them -> their completion, with or without a map that is added; then whole sums.

    Geometry, chunks, units, signs and scales at random, for an array of `rows` and `columns`; thresholds from those
    that open nothing to those that open everything, some of which the sums of an input of zeros reach exactly.
    """
    whole = lambda low, high: int(rng.integers(low, high + 1))  # noqa: E731
    size, parts, kernel = (whole(2, 7), whole(2, 7)), whole(2, 4), (whole(1, 3), whole(1, 3))
    stride, padding = (whole(1, 2), whole(1, 2)), tuple(whole(0, 1) for _ in range(4))
    out = [(size[i] + padding[i] + padding[i + 2] - kernel[i]) // stride[i] + 1 for i in range(2)]
    own, count, group = whole(1, 5), parts * whole(1, 4), whole(1, 3)
    channels = parts * own
    # Outputs of a block of columns that is of one chunk are completed by channels that must fill whole rows.
    if min(out) < 1 or (count > columns and columns % group) or (count // parts > 1 and channels % rows):
        return random_completion(rng, rows, columns)
    kinds = [Element.UINT8, Element.INT8]
    x, w, z = (Value(n, c, *s, kinds[whole(0, 1)], 0.5) for n, c, s in (
        ("x", channels, size), ("w", count, out), ("z", count, out)
    ))  # fmt: skip
    geometry = {"stride": stride, "padding": padding}
    units, base_bias, added = -(-count // group), bool(whole(0, 1)), bool(whole(0, 1))
    arrays = {
        "base.weight": rng.integers(-127, 128, (count, own, *kernel)).astype(np.int8),
        "rest.weight": rng.integers(-127, 128, (count, channels - own, *kernel)).astype(np.int8),
        "end.weight": rng.integers(-127, 128, (2, count, *out)).astype(np.int8),
        "end.scale": rng.random(2).astype(np.float32),
        "g.scale": rng.random(units).astype(np.float32) + 0.1,
    }
    if base_bias:
        arrays["base.bias"] = rng.integers(-3000, 3000, count).astype(np.int32)
    level = rng.choice([-np.inf, -2.5, -1.5, 0, 1.5, np.inf]) + rng.standard_normal((units, 1, 1)) / 2
    offset = np.clip(level * 6500 * np.sqrt(own * kernel[0] * kernel[1] * group), -(1 << 30), 1 << 30)
    if not whole(0, 2):  # as zeros reach it
        sums = np.add.reduceat(arrays.get("base.bias", np.zeros(count)), np.arange(0, count, group))
        offset = -sums.reshape(units, 1, 1)
    arrays["g.offset"] = offset.astype(np.int32)
    names = {}
    for part in ("", "open_"):
        multiplier, shift = multiplier_and_shift(rng.random(count) * 2.0 ** float(rng.integers(-9, -3)))
        arrays[f"{part}bias"] = rng.integers(-3000, 3000, count).astype(np.int32) << whole(0, 12)
        arrays[f"{part}multiplier"], arrays[f"{part}shift"] = (
            multiplier * rng.choice([-1, 1], count).astype(np.int32),
            shift,
        )
        names |= {name: name for name in (f"{part}bias", f"{part}multiplier", f"{part}shift")}
    operations = [Quantize(("images",), "x")]
    values = [Value("images", channels, *size), x, Value("sums", count, *out, Element.INT32)]
    if added:
        values.append(w)
        arrays["c.weight"] = rng.integers(-127, 128, (count, channels, *kernel)).astype(np.int8)
        arrays["c.multiplier"], arrays["c.shift"] = multiplier_and_shift(np.full(count, 2.0**-8))
        low, high = w.element.limits
        operations.append(IntegerConv(
            ("x",), "w", "c.weight", "", "c", **geometry, multiplier="c.multiplier", shift="c.shift", low=low, high=high
        ))  # fmt: skip
    low, high = z.element.limits
    addend = {"addend": (whole(1, 32767), whole(9, 16))} if added else {}
    operations += [
        IntegerConvToSums(("x",), "sums", "base.weight", "base.bias" * base_bias, "b", **geometry, groups=parts),
        IntegerDecide(("sums",), "g", "g.offset", scale="g.scale", strict=bool(whole(0, 1))),
        IntegerComplete(
            ("x", "sums", *["w"] * added), "z", "rest.weight", "b", "g", **geometry, parts=parts, **names, **addend,
            low=whole(low, 0), high=whole(1, high),
        ),
        IntegerConvToFloat(("z",), "end", "end.weight", "", "d", scale="end.scale"),
    ]  # fmt: skip
    gates = (Gate("g", GateKind.ACTIVATION, (units, *out), group),)
    layers = tuple(dict.fromkeys(op.layer for op in operations[1:] if not isinstance(op, IntegerDecide)))
    program = Program(
        (*values, z, Value("end", 2, 1, 1)), gates, tuple(operations), ("images",), ("end",), arrays, layers
    )
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
