"""Partial sums of 8-bit integers, natively, against the reference in NumPy: equal to the bit, decisions too."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from tests.engine.programs import images, masks

from convgate.engine import Engine, instruction_sets, load
from convgate.engine.integer import IntegerNetwork
from convgate.engine.program import (
    Dequantize,
    Element,
    Gate,
    GateKind,
    IntegerComplete,
    IntegerConvToSums,
    IntegerDecide,
    Program,
    Quantize,
    Value,
)

ISAS = instruction_sets("int8")


@st.composite
def completions(draw):
    """A base path, a decision on its sums and their completion: any geometry, signs, groups, units and scales."""
    pick = lambda *choices: draw(st.sampled_from(choices))  # noqa: E731
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = pick(1, 2, 3, 4)
    ins, outs = (parts * pick(1, 2, 5, 8, 16, 21, 33) for _ in range(2))
    kernel, stride, dilation = pick((1, 1), (3, 3), (3, 3), (2, 3)), pick((1, 1), (1, 1), (2, 1)), pick((1, 1), (2, 2))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    size = [
        (n + padding[i] + padding[i + 2] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i, n in enumerate((height, width))
    ]
    if min(size) < 1:
        reject()
    group = pick(1, 1, 2, 5, 16, 40)
    units = -(-outs // group)
    element, result, added = (pick(Element.INT8, Element.UINT8) for _ in range(3))
    own = ins // parts
    reads = ins if parts == 1 else ins - own
    arrays = {
        "base": rng.integers(-127, 128, (outs, own, *kernel)).astype(np.int8),
        "rest": rng.integers(-127, 128, (outs, reads, *kernel)).astype(np.int8),
        "bias": rng.integers(-(2**12), 2**12, outs).astype(np.int32),
        "offset": rng.integers(-(2**9), 2**9, (units, 1, 1)).astype(np.int32),
        "logit": rng.random(units).astype(np.float32) + 0.1,
    }
    usual = int(np.abs(arrays["rest"][0].astype(int)).sum()).bit_length() + 8
    for prefix in ("", "open_"):
        near = rng.integers(max(usual - 4, 1), usual + 8, outs)
        shift = rng.integers(1, 47, outs) if draw(st.booleans()) else near
        arrays |= {
            f"{prefix}b": rng.integers(-(2**20), 2**20, outs).astype(np.int32),
            f"{prefix}m": rng.integers(-(2**15) + 1, 2**15, outs).astype(np.int32),
            f"{prefix}s": shift.astype(np.int32),
        }
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    adds, low, high = draw(st.booleans()), *result.limits
    values = [
        Value("images", ins, height, width),
        Value("x", ins, height, width, element, 0.05),
        Value("sums", outs, *size, Element.INT32),
        Value("y", outs, *size, result, 0.1),
        Value("end", outs, *size),
    ]
    before = [Quantize(("images",), "x")]
    if adds:
        values += [Value("more", outs, *size), Value("added", outs, *size, added, 0.03)]
        before.append(Quantize(("more",), "added"))
    names = {
        prefix + field: prefix + key
        for prefix in ("", "open_")
        for field, key in (("bias", "b"), ("multiplier", "m"), ("shift", "s"))
    }
    operations = (
        *before,
        IntegerConvToSums(("x",), "sums", "base", pick("bias", ""), "layer", groups=parts, **geometry),
        IntegerDecide(("sums",), "g", "offset", scale="logit", strict=draw(st.booleans())),
        IntegerComplete(
            ("x", "sums", "added") if adds else ("x", "sums"),
            "y",
            "rest",
            "layer",
            "g",
            parts=parts,
            **geometry,
            **names,
            addend=pick((1 << 14, 14), (20000, 15), (30000, 30), (3, 1)),
            low=int(rng.integers(low, 1)),
            high=int(rng.integers(1, high + 1)),
        ),
        Dequantize(("y",), "end"),
    )
    gate = Gate("g", GateKind.ACTIVATION, (units, *size), group, on="sums")
    inputs = ("images", "more") if adds else ("images",)
    return Program(tuple(values), (gate,), operations, inputs, ("end",), arrays, ("layer",))


def agree(program, inputs, drawn, isa, threads):
    found = Engine(program, threads=threads, isa=isa).run(*inputs, given=drawn)
    wanted = Engine(program, threads=1, isa=isa, executor=IntegerNetwork).run(*inputs, given=drawn)
    np.testing.assert_array_equal(found.outputs[0], wanted.outputs[0])
    np.testing.assert_array_equal(found.macs, wanted.macs)
    mine, theirs = found.decisions["g"], wanted.decisions["g"]
    np.testing.assert_array_equal(mine.mask, theirs.mask)
    assert (mine.logits is None) == (theirs.logits is None) == bool(drawn)
    if not drawn:
        np.testing.assert_array_equal(mine.logits, theirs.logits)
    return found


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    program=completions(),
    threads=st.integers(1, 3),
    share=st.sampled_from((None, None, 0.0, 0.1, 0.6, 1.0)),
    seed=st.integers(0, 99),
)
def test_any_partial_sums(isa, program, threads, share, seed):
    inputs = [3 * x for x in images(program, 2, seed)]
    drawn = {} if share is None else masks(program, 2, share, seed)
    found = agree(program, inputs, drawn, isa, threads)
    base, rest = program.arrays["base"], program.arrays["rest"]
    positions = int(np.prod(program.value("sums").shape[1:]))
    gate = program.gates[0]
    opened = np.repeat(found.decisions["g"].mask, gate.group, 1)[:, : len(base)].reshape(2, -1).sum(1, dtype=np.int64)
    np.testing.assert_array_equal(found.macs, positions * base.size + opened * rest[0].size)


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(program=completions())
def test_the_same_from_a_file(program, tmp_path):
    inputs = images(program, 2)
    engine = Engine(program, threads=1)
    engine.save(tmp_path / "net.cgm")
    found = load(tmp_path / "net.cgm", threads=1).run(*inputs)
    np.testing.assert_array_equal(found.outputs[0], engine.run(*inputs).outputs[0])
