"""Partial sums in integers: thresholds are exact, what follows the sums is what the network's norms do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import convgate
from convgate.engine.program import (
    Add,
    Complete,
    Conv,
    Decide,
    Element,
    Gate,
    GateKind,
    IntegerComplete,
    IntegerConvToSums,
    IntegerDecide,
    Program,
    Value,
)
from convgate.models import create
from convgate.quantization.partial import partial_sums

RNG = np.random.default_rng(0)
SCALE = 0.02


def program(group=1, parts=2, strict=True, **arrays):
    """A base path of 4 and a completion of 6 outputs, with norms."""
    own, reads = 4 // parts if parts > 1 else 2, 2
    shapes = {"base": (6, own, 3, 3), "rest": (6, reads, 3, 3), "b": (6,), "offset": (-(-6 // group), 1, 1)}
    shapes |= dict.fromkeys(("ds", "dt", "s", "t", "os", "ot"), (6,))
    drawn = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    drawn["ds"] = np.abs(drawn["ds"]) + 0.1
    values = (Value("x", 4 if parts > 1 else 2, 5, 5), Value("sums", 6, 5, 5), Value("y", 6, 5, 5))
    around = (1, 1, 1, 1)
    operations = (
        Conv(("x",), "sums", "base", "b", "layer", padding=around, groups=parts),
        Decide(("sums",), "g", "offset", "ds", "dt", strict),
        Complete(("x", "sums"), "y", "rest", "layer", "g", padding=around, parts=parts, scale="s", shift="t",
                 open_scale="os", open_shift="ot"),
    )  # fmt: skip
    gate = Gate("g", GateKind.ACTIVATION, (-(-6 // group), 5, 5), group)
    return Program(values, (gate,), operations, ("x",), ("y",), drawn | arrays, ("layer",))


def parts_of(of):
    return partial_sums(of, ())["sums"]


@pytest.mark.parametrize("group", [1, 3, 4])
@pytest.mark.parametrize("strict", [False, True])
def test_decisions_are_those_of_the_sums_in_exact_arithmetic(group, strict):
    of = program(group, strict=strict)
    parts = parts_of(of)
    units = parts.units(of, SCALE)
    offset, scale = parts.offsets(of, units)
    counts = np.diff([*range(0, 6, group), 6])
    centre = -np.repeat(offset.ravel() / counts, counts)[:, None]
    sums = RNG.integers(-600, 600, (6, 4000)) + np.rint(centre).astype(np.int64)
    logits = sums * (units * of.arrays["ds"])[:, None] + of.arrays["dt"][:, None].astype(np.float64)
    for unit, begin in enumerate(range(0, 6, group)):
        mean = logits[begin : begin + group].mean(0) + float(of.arrays["offset"].ravel()[unit])
        above = sums[begin : begin + group].sum(0) + offset[unit, 0, 0]
        far = np.abs(mean) > 1e-9  # but for what float64 itself cannot tell
        np.testing.assert_array_equal((above > 0 if strict else above >= 0)[far], (mean > 0)[far])
        assert 0 < (above > 0).mean() < 1
        np.testing.assert_allclose(above * scale[unit], mean, atol=1.01 * scale[unit])


def test_both_convolutions_share_the_unit_of_their_weights():
    of = program()
    units = parts_of(of).units(of, SCALE) / SCALE
    most = np.maximum(*(np.abs(of.arrays[name]).reshape(6, -1).max(1) for name in ("base", "rest")))
    np.testing.assert_allclose(units, most / 127, rtol=1e-6)
    grouped = program(3)
    units = parts_of(grouped).units(grouped, 1.0) * grouped.arrays["ds"]
    np.testing.assert_allclose(units.reshape(2, 3), np.repeat(units[::3, None], 3, 1))


@pytest.mark.parametrize("opened", [False, True])
def test_what_follows_the_sums(opened):
    of = program()
    of.arrays["s"][0] = of.arrays["os"][0] = 0  # a channel that its norm makes constant
    of.arrays["s"][1] = of.arrays["os"][1] = -1e-7
    of.arrays["s"][2] = of.arrays["os"][2] = of.arrays["t"][2] = of.arrays["ot"][2] = 0
    parts = parts_of(of)
    units, scale = parts.units(of, SCALE), 0.05
    found = parts.following(of, units, scale, opened=opened)
    sums = RNG.integers(-(2**17), 2**17, (6, 500))
    factor, shift = (of.arrays[name][:, None].astype(np.float64) for name in (("os", "ot") if opened else ("s", "t")))
    expected = (sums * units[:, None] * factor + shift) / scale
    whole = (sums + found.bias[:, None].astype(np.int64)) * found.multiplier[:, None].astype(np.float64)
    mine = whole / 2.0 ** found.shift[:, None]
    near = np.abs(expected) < 300
    assert near.mean() > 0.3
    assert np.abs(mine - expected)[near].max() < 0.1
    assert (found.multiplier < 0).any()
    assert np.abs(found.bias.astype(np.int64)).max() <= 2**30


def test_what_integers_cannot_complete_stays_float32():
    of = program()

    def changed(number, **fields):
        operations = list(of.operations)
        operations[number] = replace(operations[number], **fields)
        return replace(of, operations=tuple(operations))

    assert partial_sums(of, ["layer"]) == {}
    assert partial_sums(replace(of, outputs=("y", "sums")), ()) == {}
    negative = replace(of, arrays={**of.arrays, "ds": -of.arrays["ds"]})
    assert partial_sums(negative, ()) == {}
    assert partial_sums(changed(0, activation=convgate.engine.program.Activation("relu")), ()) == {}
    more = replace(
        of,
        values=(*of.values, Value("z", 6, 5, 5)),
        operations=(*of.operations, Add(("sums", "y"), "z")),
        outputs=("z",),
    )
    assert partial_sums(more, ()) == {}
    assert partial_sums(changed(2, inputs=("x", "sums", "sums")), ()) == {}
    huge = replace(of, arrays={**of.arrays, "rest": np.zeros((6, 40000, 3, 3), np.float32)})
    assert partial_sums(huge, ()) == {}


class Plain(nn.Module):
    """A bias before the partial sums, an activation that does not clamp, a shortcut."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(n, 16, 3, padding=1) for n in (3, 16, 16))
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = nn.functional.relu(self.first(x))
        y = nn.functional.silu(self.second(x))
        return self.fc(nn.functional.relu(x + self.third(y)).mean((2, 3)))


METHODS = {
    "chunks": convgate.ChannelGating(),
    "groups of channels": convgate.ChannelGating(group=4),
    "first": convgate.ChannelGating(groups=False, partitions=2),
    "shuffled": convgate.ChannelGating(shuffle=True),
    "two norms": convgate.ChannelGating(form="paper"),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("plain", [False, True])
def test_gated_networks_complete_in_integers_and_decide_as_before(name, plain):
    torch.manual_seed(0)
    if plain and name == "two norms":
        pytest.skip("there are no norms")
    images = torch.randn(8, 3, 12, 12)
    model = Plain() if plain else create("cifar_resnet8", width=8)
    net = convgate.gate(model.eval(), METHODS[name], images).eval()
    convgate.calibrate(net, [images], budget=0.6)
    engine, dense = convgate.quantize(net, [images], threads=1), convgate.compile(net, threads=1)
    kinds = [type(op) for op in engine.program.operations]
    gates = len(engine.program.gates)
    assert gates > 1
    assert kinds.count(IntegerDecide) == kinds.count(IntegerConvToSums) == kinds.count(IntegerComplete) == gates
    assert not {Complete, Decide} & set(kinds)
    assert {v.element for v in engine.program.values} >= {Element.INT32}
    mine, theirs = engine.run(images.numpy()), dense.run(images.numpy())
    flipped = np.mean([(mine.decisions[g].mask != theirs.decisions[g].mask).mean() for g in theirs.decisions])
    assert 0 < flipped < 0.1
    np.testing.assert_allclose(mine.macs, theirs.macs, rtol=0.05)
    held = engine.run(images.numpy(), given={g: d.mask for g, d in theirs.decisions.items()})
    np.testing.assert_array_equal(held.macs, theirs.macs)
    error = held.outputs[0] - theirs.outputs[0]
    assert np.sqrt((error**2).mean() / (theirs.outputs[0] ** 2).mean()) < 0.05
    shares = [decision.mask.mean() for decision in mine.decisions.values()]
    assert 0 < min(shares) < max(shares) < 1
