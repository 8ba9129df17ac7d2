"""Residual branches however they are written, behind whatever norm."""

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from convgate import DualGating, gate, plan
from convgate.gating import Tiles
from convgate.reading import branches, features, trace
from convgate.reading.norms import pools_positions, returns_its_input

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self, join, norm=nn.BatchNorm2d):
        super().__init__()
        self.c1, self.n1, self.c2, self.n2 = nn.Conv2d(16, 16, 3, 1, 1), norm(16), nn.Conv2d(16, 16, 3, 1, 1), norm(16)
        self.gamma = nn.Parameter(torch.rand(16))
        self.wide = nn.Parameter(torch.rand(16, 1, 1))
        self.join = join

    def forward(self, x):
        return self.join(self, x, self.n2(self.c2(torch.relu(self.n1(self.c1(x))))))


def network(join, norm=nn.BatchNorm2d):
    torch.manual_seed(0)
    blocks = [Block(join, norm) for _ in range(2)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


JOINS = {
    "plain": lambda m, x, y: x + y,
    "in place": lambda m, x, y: y.add_(x),
    "named": lambda m, x, y: torch.add(input=x, other=y),
    "minus": lambda m, x, y: x - y,
    "gamma": lambda m, x, y: x + m.wide * y,
    "view": lambda m, x, y: x + y * m.gamma.view(1, -1, 1, 1),
    "indexed": lambda m, x, y: x + m.gamma[None, :, None, None] * y,
    "reshaped": lambda m, x, y: y.mul_(m.gamma.reshape(1, -1, 1, 1)) + x,
    "lerp": lambda m, x, y: torch.lerp(x, y, 0.5),
    "addcmul": lambda m, x, y: torch.addcmul(x, m.wide, y),
    "stacked": lambda m, x, y: torch.stack([x, y]).sum(0),
    "method": lambda m, x, y: x.sub(y),
    "statement": lambda m, x, y: (y.mul_(m.gamma[:, None, None]), y.neg_(), x + y)[-1],
}


@pytest.mark.parametrize("join", JOINS)
def test_a_branch_is_found_however_it_is_joined(join):
    model = network(JOINS[join])
    found, rejected = branches(trace(model, X))
    assert [branch.name for branch in found] == ["1", "2"], rejected
    net = gate(model, DualGating(tile=2), X).eval()
    with torch.no_grad():
        torch.testing.assert_close(net.replay(X, net.open_decisions(2)), model(X), rtol=1e-5, atol=1e-6)


def test_frozen_norms_are_as_good_as_batch_norms():
    plain, frozen = (
        features(trace(network(JOINS["plain"], norm), X))[0] for norm in (nn.BatchNorm2d, FrozenBatchNorm2d)
    )
    assert [(f.name, f.end) for f in plain] == [(f.name, f.end) for f in frozen]


POOLING = {
    "group": lambda c: nn.GroupNorm(4, c),
    "instance": nn.InstanceNorm2d,
    "map": lambda c: nn.LayerNorm([c, 8, 8]),
    "batch": lambda c: nn.BatchNorm2d(c, track_running_stats=False),
}


@pytest.mark.parametrize("norm", POOLING)
def test_what_a_norms_statistics_need_is_computed_and_counted(norm):
    model = network(JOINS["plain"], POOLING[norm])
    planned = plan(model, DualGating(tile=2, channel=False), X)
    assert "statistics" in str(planned)
    assert not any(layer.gated for layer in planned.ledger.layers)
    assert planned.idle == tuple(spec.name for spec in planned.gates)
    assert f"gates that save nothing here: {', '.join(planned.idle)}" in str(planned)
    net = gate(model, DualGating(tile=2, channel=False), X).eval()
    seen = []
    net.get_submodule("1.n2").register_forward_hook(lambda module, inputs, output: seen.append(output))
    closed = net.open_decisions(2)
    name = next(iter(closed))
    closed[name].mask[:, :, :2] = 0
    with torch.no_grad():
        net.replay(X, net.open_decisions(2))
        net.replay(X, closed)
    torch.testing.assert_close(seen[0], seen[1])


class PreActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.c1 = nn.GroupNorm(4, 16), nn.Conv2d(16, 16, 3, 1, 1)
        self.n2, self.c2 = nn.GroupNorm(4, 16), nn.Conv2d(16, 16, 3, 1, 1)

    def forward(self, x):
        return x + self.c2(torch.relu(self.n2(self.c1(torch.relu(self.n1(x))))))


def test_a_convolution_behind_the_last_norm_is_skipped():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), PreActivation(), nn.AdaptiveAvgPool2d(1)).eval()
    planned = plan(model, DualGating(tile=2, channel=False), X)
    gated = {layer.name for layer in planned.ledger.layers if layer.gated}
    assert gated == {"1.c2"}
    (site,) = planned.sites
    assert [type(gate.kind) for gate in site.gates] == [Tiles]
    assert "GroupNorm 1.n2" in str(site.skipped)


class Own(nn.Module):
    """Stochastic depth by hand, under a name of its own."""

    def forward(self, x):
        return x * torch.rand(len(x), 1, 1, 1).round() if self.training else x


class Scaling(nn.Module):
    def forward(self, x):
        return x * 2


def test_layers_that_do_nothing_are_known_by_what_they_do():
    model = nn.Sequential(Own(), Scaling(), StochasticDepth(0.5, "row"), nn.Dropout2d(), nn.ReLU(), nn.GroupNorm(1, 3))
    traced = trace(model, X)
    neutral = [returns_its_input(traced, node) for node in traced.evaluation.nodes if node.op == "call_module"]
    assert neutral == [True, False, True, True, False, False]
    assert model.training
    assert [n.name for n in traced.evaluation.nodes if pools_positions(traced, n)] == ["_5"]


def test_planning_grows_with_the_number_of_blocks_and_not_faster():
    model = nn.Sequential(nn.Conv2d(3, 16, 1), *[Block(JOINS["plain"]) for _ in range(60)])
    found, rejected = branches(trace(model, torch.zeros(1, 3, 8, 8)))
    assert len(found) == 60
    assert not rejected


class Normalised(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, 1, 1), norm
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("var", torch.ones(16))

    def forward(self, x):
        return self.norm(self, self.conv(x))


FUNCTIONS = {
    "layer": (True, lambda m, x: torch.layer_norm(x, [16, 8, 8])),
    "rms": (True, lambda m, x: nn.functional.rms_norm(x, [16, 8, 8])),
    "batch without": (True, lambda m, x: nn.functional.batch_norm(x, None, None, training=True)),
    "batch training": (True, lambda m, x: nn.functional.batch_norm(x, m.mean, m.var, None, None, True)),
    "batch": (False, lambda m, x: nn.functional.batch_norm(x, m.mean, m.var)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_norms_that_are_functions_pool_positions_as_layers_do(name):
    pools, function = FUNCTIONS[name]
    traced = trace(Normalised(function).eval(), X)
    norms = [n for n in traced.evaluation.nodes if n.op == "call_function" and "norm" in str(n.target)]
    assert [pools_positions(traced, node) for node in norms] == [pools]


def test_models_are_read_under_inference_mode():
    with torch.inference_mode():
        model = network(JOINS["plain"])
        assert plan(model, DualGating(), X.clone()).sites
