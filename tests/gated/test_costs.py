"""A line of the ledger depends on gates only where its formula gives what was counted."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import convgate


class Twice(nn.Conv2d):
    """Runs its convolution two times."""

    def forward(self, x):
        return super().forward(x) + super().forward(x.flip(3)).flip(3)


class Standardised(nn.Conv2d):
    """Normalises its weight first, which multiplies no matrices."""

    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, self.weight - mean, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Block(nn.Module):
    def __init__(self, conv=nn.Conv2d, width=8):
        super().__init__()
        self.conv1, self.norm1 = conv(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


def network(*blocks):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


EXAMPLE = torch.zeros(2, 3, 8, 8)
DENSE = 64 * 9 * 8 * 8


@pytest.mark.parametrize("conv", [nn.Conv2d, Standardised])
def test_layers_that_cost_what_the_formula_says_are_gated(conv):
    plan = convgate.plan(network(Block(conv)).eval(), convgate.DualGating(), EXAMPLE)
    assert [site.name for site in plan.sites] == ["1"]
    assert all(layer.open_macs == layer.macs for layer in plan.ledger.layers)


def test_a_site_with_a_layer_that_costs_something_else_is_given_up_with_the_difference():
    plan = convgate.plan(network(Block(), Block(Twice)).eval(), convgate.DualGating(), EXAMPLE)
    assert [site.name for site in plan.sites] == ["1"]
    (reason,) = (rejected.reason for rejected in plan.skipped if rejected.name == "2")
    assert "2.conv1" in reason
    assert f"{2 * DENSE:,} MACs" in reason
    assert f"{DENSE:,}" in reason
    macs = {layer.name: layer.macs for layer in plan.ledger.layers}
    assert macs["2.conv1"] == 2 * DENSE


def test_computing_a_weight_from_others_is_not_counted():
    """It is the same for every image: inference computes it once."""

    class Factors(nn.Module):
        def __init__(self):
            super().__init__()
            self.u, self.v = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 8))

        def forward(self, weight):
            return weight + (self.u @ self.v)[:, :, None, None]

    block = Block()
    torch.nn.utils.parametrize.register_parametrization(block.conv1, "weight", Factors())
    plan = convgate.plan(network(block, Block()).eval(), convgate.DualGating(), EXAMPLE)
    assert [site.name for site in plan.sites] == ["1", "2"]
    assert {layer.name: layer.macs for layer in plan.ledger.layers}["1.conv1"] == DENSE


def test_orthogonal_weights_are_counted():
    block = Block()
    parametrizations.weight_norm(block.conv1)
    plan = convgate.plan(network(block).eval(), convgate.DualGating(), EXAMPLE)
    assert [site.name for site in plan.sites] == ["1"]


@pytest.mark.parametrize("batch", [1, 4])
def test_every_line_stands_in_the_plan(batch):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Conv2d(3, 8, 3, padding=1), Block()
            self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))
            self.up, self.head = nn.ConvTranspose2d(8, 8, 2, 2), nn.Linear(8, 4)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            x = self.block(self.stem(x))
            x = self.up(x + F.conv2d(x, self.weight, padding=1))
            t = x.flatten(2).transpose(1, 2)
            return self.head(self.attention(t, t, t)[0].mean(1))

    plan = convgate.plan(Odd().eval(), convgate.DualGating(), torch.zeros(batch, 3, 8, 8))
    listed = {plan.layer_names[conv] for site in plan.sites for conv in site.convs} | {r.name for r in plan.skipped}
    macs = {layer.name: layer.macs for layer in plan.ledger.layers}
    assert macs == {
        "stem": 64 * 27 * 8,
        "block.conv1": DENSE,
        "block.conv2": DENSE,
        "conv2d()": DENSE,
        "up": 64 * 4 * 8 * 8,
        "attention": 256 * 8 * 4 * 8 + 2 * 256**2 * 8,
        "head": 32,
    }
    assert macs.keys() <= listed


def test_what_runs_uncounted_is_named_and_arithmetic_with_sizes_is_not():
    class Sizes(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network(Block())

        def forward(self, x):
            n, c, h, w = x.shape
            return self.body(x.reshape(n, c, h * w).view(n, c, h, w))

    plan = convgate.plan(Sizes().eval(), convgate.DualGating(), EXAMPLE)
    kinds = {kind.split(" x")[0] for kind in plan.ledger.uncounted}
    assert {"BatchNorm2d", "relu", "add", "reshape", "view", "AdaptiveAvgPool2d", "Flatten"} == kinds
