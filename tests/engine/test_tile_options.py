"""Networks with dilated masks or filled tiles: engine, ledger and masked network agree, in every precision."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import convgate
from convgate.engine import Engine, instruction_sets, load
from convgate.engine.integer import IntegerNetwork
from convgate.engine.program import Add, Conv, Decide, FillClosed, Gate, GateKind, PoolToGrid, Program, Value
from convgate.models import create

SIZES = ((24, 24), (19, 30))


class Bottleneck(nn.Module):
    """A branch that strides inside, depthwise or not."""

    def __init__(self, channels, out, stride, groups=1):
        super().__init__()
        self.one, self.two = nn.Conv2d(channels, 8, 1, bias=False), nn.Conv2d(8, 8, 3, stride, 1, 1, groups, bias=False)
        self.three, self.shortcut = nn.Conv2d(8, out, 1, bias=False), nn.Conv2d(channels, out, 1, stride)
        self.norms = nn.ModuleList(map(nn.BatchNorm2d, (8, 8, out)))

    def forward(self, x):
        y = torch.relu(self.norms[0](self.one(x)))
        y = torch.relu(self.norms[1](self.two(y)))
        return torch.relu(self.norms[2](self.three(y)) + self.shortcut(x))


def bottlenecks():
    blocks = Bottleneck(6, 12, 2), Bottleneck(12, 12, 1, 8), Bottleneck(12, 20, 2, 8)
    return nn.Sequential(nn.Conv2d(3, 6, 3, 1, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5))


MODELS = {"basic blocks": partial(create, "cifar_resnet8", num_classes=5, width=6), "bottlenecks": bottlenecks}


OPTIONS = {
    "dilated": {"dilated": True, "tile": 1},
    "filled": {"filled": True, "tile": 2},
    "both": {"dilated": True, "filled": True, "tile": 2},
}


@pytest.fixture(scope="module", params=[(model, options) for model in MODELS for options in OPTIONS], ids="-".join)
def pair(request, randomise):
    """(network, engine)."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, *SIZES[0])
    model, options = request.param
    net = convgate.gate(randomise(MODELS[model](), x), convgate.DualGating(group=2, **OPTIONS[options]), x).eval()
    for fill in net.plan.fills:
        for parameter in net.convgate.paths.get_submodule(fill.path).parameters():
            torch.nn.init.normal_(parameter)
    return net, convgate.compile(net, threads=1)


def drawn(net, size, share, seed):
    rng = np.random.default_rng(seed)
    masks = {name: d.mask for name, d in net.open_decisions(2, size).items()}
    return {name: (rng.random(mask.shape) < share).astype(np.uint8) for name, mask in masks.items()}


def check(net, engine, size, share, seed):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))
    masks = drawn(net, size, share, seed)
    run = engine.run(x.numpy(), given=masks)
    decisions = convgate.Decisions.from_numpy(masks, {gate.name: gate.kind for gate in net.plan.gates}, size)
    assert net.cost(decisions).macs.tolist() == run.macs.tolist()
    assert {layer: macs.tolist() for layer, macs in net.cost(decisions).by_layer.items()} == {
        layer: macs.tolist() for layer, macs in run.by_layer.items()
    }
    assert set(run.decisions) == {gate.name for gate in net.plan.gates}
    return x, masks, run, net.replay(x, decisions).detach().numpy()


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(SIZES), st.sampled_from([0.0, 0.1, 0.3, 0.8]), st.integers(0, 99))
def test_macs_and_outputs_are_the_networks(pair, size, share, seed):
    _, _, run, expected = check(*pair, size, share, seed)
    np.testing.assert_allclose(run.outputs[0], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_masks_that_are_dilated_say_so(pair):
    net, _ = pair
    layers = [layer for layer in net.ledger.layers if layer.reach != (0, 0)]
    if not net.plan.method["options"]["dilated"]:
        assert not layers
        return
    assert {layer.positions for layer in layers} == {g.name for g in net.plan.gates if g.name.endswith("spatial")}
    dilated = {op.layer: op.reach for op in pair[1].program.operations if isinstance(op, Conv) and any(op.reach)}
    assert dilated == {layer.name: layer.reach for layer in layers}
    assert "dilated by 1x1" in pair[1].describe()


def test_tiles_are_filled_in_what_a_branch_is_added_to(pair):
    net, engine = pair
    operations = engine.program.operations
    fills = [op for op in operations if isinstance(op, FillClosed)]
    assert [op.gate for op in fills] == [fill.gate for fill in net.plan.fills]
    assert not any(isinstance(op, Add) for op in operations)  # branches are still added where they end
    assert all(any(op.output == conv.inputs[-1] for conv in operations if isinstance(conv, Conv)) for op in fills)
    run = engine.run(np.zeros((1, 3, *SIZES[0]), np.float32))
    lines = {line: int(macs[0]) for line, macs in run.by_layer.items() if line.startswith("fills.")}
    assert lines == {f"fills.{path}": macs for path, macs in net.ledger.fills.items()}


def test_own_decisions_and_a_file(pair, tmp_path):
    net, engine = pair
    engine.save(tmp_path / "net.cgm")
    x = torch.randn(2, 3, *SIZES[1])
    first, again = engine.run(x.numpy()), load(tmp_path / "net.cgm", threads=1).run(x.numpy())
    np.testing.assert_array_equal(first.outputs[0], again.outputs[0])
    np.testing.assert_array_equal(first.macs, again.macs)
    expected = net.replay(x, first.decisions).detach().numpy()
    np.testing.assert_allclose(first.outputs[0], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_in_bfloat16(pair):
    net, engine = pair
    rounded = Engine(engine.program, precision="bf16", threads=1)
    for size in SIZES:
        _, _, run, expected = check(net, rounded, size, 0.3, 1)
        assert np.corrcoef(run.outputs[0].ravel(), expected.ravel())[0, 1] > 0.99


def test_of_integers(pair):
    net, _ = pair
    engine = convgate.quantize(net, [torch.randn(4, 3, *SIZES[0])], threads=1)
    for size in SIZES:
        x, masks, run, _ = check(net, engine, size, 0.3, 2)
        reference = Engine(engine.program, threads=1, executor=IntegerNetwork).run(x.numpy(), given=masks)
        np.testing.assert_array_equal(run.outputs[0], reference.outputs[0])
        np.testing.assert_array_equal(run.macs, reference.macs)


@pytest.mark.parametrize("isa", instruction_sets())
def test_tiles_of_no_position_are_within_nobodys_reach(isa):
    """Of 4 x 4 tiles over 2 x 2 positions those count that are of tiles 0 and 2 of an axis; all are within reach."""
    rng = np.random.default_rng(0)
    arrays = {"head": rng.standard_normal((1, 3, 1, 1)).astype(np.float32), "offset": np.zeros((1, 4, 4), np.float32)}
    arrays["weight"] = rng.standard_normal((5, 3, 3, 3)).astype(np.float32)
    values = (Value("x", 3, 2, 2), Value("pooled", 3, 4, 4), Value("logits", 1, 4, 4), Value("y", 5, 2, 2))
    operations = (
        PoolToGrid(("x",), "pooled"),
        Conv(("pooled",), "logits", "head", "", "gate"),
        Decide(("logits",), "gate", "offset"),
        Conv(("x",), "y", "weight", "", "y", padding=(1, 1, 1, 1), positions="gate", reach=(1, 1)),
    )
    gates = (Gate("gate", GateKind.SPATIAL, (1, 4, 4)),)
    program = Program(values, gates, operations, ("x",), ("y",), arrays, ("gate", "y"))
    engine, images = Engine(program, threads=1, isa=isa), np.ones((16, 3, 2, 2), np.float32)
    run = engine.run(images, given={"gate": np.eye(16, dtype=np.uint8).reshape(16, 1, 4, 4)})
    reached = np.array([[4, 0, 4, 0], [0] * 4, [4, 0, 4, 0], [0] * 4]).ravel()
    assert run.by_layer["y"].tolist() == (reached * arrays["weight"].size).tolist()
    assert (run.outputs[0].any((1, 2, 3)) == (reached > 0)).all()
