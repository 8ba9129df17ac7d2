"""Convolutions in other forms than nn.Conv2d itself: subclasses, and functions with a parameter as their weight."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convgate

X = torch.randn(2, 3, 16, 16)


class Same(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, self.stride, "same", self.dilation, self.groups)


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), weight, self.bias)


class LayerScale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)

    def forward(self, x):
        return x * self.gamma


class Net(nn.Module):
    def __init__(self, conv, scale=nn.Identity):
        super().__init__()
        self.stem, self.first, self.second, self.scale = nn.Conv2d(3, 8, 3, 1, 1), conv(8, 8, 3), conv(8, 8, 3), scale()

    def forward(self, x):
        x = self.stem(x)
        return (x + self.scale(self.second(self.first(x).relu()))).mean((2, 3))


class Functional(Net):
    def __init__(self):
        super().__init__(lambda i, o, k: nn.Conv2d(i, o, k, padding=1))
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

    def forward(self, x):
        x = self.stem(x)
        x = x + self.second(self.first(x).relu())
        return F.conv2d(x, self.weight, padding=1).mean((2, 3))


def padded(i, o, k):
    return nn.Conv2d(i, o, k, padding=1)


@torch.no_grad()
def assert_exact(model, net):
    decisions = net.open_decisions(2)
    torch.testing.assert_close(net.replay(X, decisions), model(X))
    assert (net.cost(decisions).macs == net.ledger.dense + net.ledger.gate_macs).all()
    _, decisions = net.decide(X)
    run = convgate.compile(net, threads=1).run(X.numpy())
    assert (run.macs == net.cost(decisions).macs.numpy()).all()


@pytest.mark.parametrize("conv", [Same, Standardised])
def test_subclasses_of_conv2d_are_gated_where_the_formula_agrees(conv):
    model = Net(conv).eval()
    net = convgate.gate(model, convgate.DualGating(), X).eval()
    (site,) = net.plan.sites
    assert site.convs == ("first", "second")
    assert net.ledger.dense == (3 * 8 + 2 * 8 * 8) * 9 * 16 * 16
    assert_exact(model, net)


def test_a_scale_of_channels_is_a_part_of_the_branch():
    model = Net(padded, lambda: LayerScale(8)).eval()
    net = convgate.gate(model, convgate.DualGating(), X).eval()
    assert [site.convs for site in net.plan.sites] == [("first", "second")]
    assert_exact(model, net)


def test_a_functional_convolution_has_a_line_and_a_reason():
    model = Functional().eval()
    net = convgate.gate(model, convgate.DualGating(), X).eval()
    (line,) = (layer for layer in net.ledger.layers if layer.name == "conv2d()")
    assert line.macs == 8 * 8 * 9 * 16 * 16
    (skipped,) = (skipped for skipped in net.plan.skipped if skipped.name == "conv2d()")
    assert "is a conv2d" in skipped.reason
    assert_exact(model, net)
