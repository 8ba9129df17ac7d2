"""What is found in graphs: small networks written for the purpose, one structure each."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convgate.gated import gate
from convgate.methods import DualGating
from convgate.reading import branches, features, trace


def conv(inputs, outputs, size=3, **options):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


class Block(nn.Module):
    def __init__(self, channels=8, depth=2):
        super().__init__()
        self.body = nn.Sequential(*(m for _ in range(depth) for m in (conv(channels, channels), nn.ReLU())))

    def forward(self, x):
        return x + self.body(x)


class SqueezeExcite(nn.Module):
    """An inverted residual with squeeze-and-excitation, as in MobileNetV3."""

    def __init__(self, channels=8, hidden=16):
        super().__init__()
        self.expand, self.project = conv(channels, hidden, 1), conv(hidden, channels, 1)
        self.depthwise = conv(hidden, hidden, groups=hidden)
        self.squeeze, self.excite = conv(hidden, 4, 1), conv(4, hidden, 1)

    def forward(self, x):
        y = F.relu(self.depthwise(F.relu(self.expand(x))))
        scale = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return x + self.project(y * scale)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = conv(8, 8), Block(), conv(8, 8)

    def forward(self, x):
        return x + self.last(self.inner(self.first(x)))


class Headed(nn.Module):
    """A stem before and a classifier behind, so that what is tested reads no image."""

    def __init__(self, body, channels=8):
        super().__init__()
        self.stem, self.body, self.head = conv(3, channels), body, nn.Linear(channels, 5)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class TwoPaths(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = conv(8, 8), conv(8, 8)

    def forward(self, x):
        return self.a(x) + self.b(x)


class SideExit(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = conv(8, 8), conv(8, 8)

    def forward(self, x):
        y = self.a(x)
        return torch.relu(x + self.b(y)) + y.mean((2, 3), keepdim=True)


def read(body, size=(12, 16)):
    return trace(Headed(body).eval(), torch.randn(2, 3, *size))


def test_a_residual_block():
    (branch,), _ = branches(read(Block()))
    assert (branch.name, branch.height, branch.width) == ("body.body", 12, 16)
    assert branch.convs == ("body_body_0", "body_body_2")


def test_the_innermost_of_nested_branches_is_taken_and_the_other_reported():
    found, rejected = branches(read(Nested()))
    assert [b.name for b in found] == ["body.inner.body"]
    assert any("holds other residual branches" in r.reason for r in rejected)


def test_two_convolved_operands_are_ambiguous():
    found, rejected = branches(read(TwoPaths()))
    assert not found
    assert "neither is a shortcut" in rejected[0].reason


def test_a_branch_that_is_read_elsewhere_is_refused():
    found, rejected = branches(read(SideExit()))
    assert not found
    assert any("also read outside the branch" in r.reason for r in rejected)


def test_squeeze_and_excitation_does_not_hide_a_feature():
    found, rejected = features(read(SqueezeExcite()))
    by_name = {f.name: f for f in found}
    feature = by_name["body.depthwise"]
    # The expanding convolution's channels are the depthwise one's, and the projection reads them rescaled.
    assert feature.convs == ("body_expand", "body_depthwise")
    assert feature.readers == ("body_project",)
    reasons = {r.name: r.reason for r in rejected}
    assert "pooled to 1x1" in reasons["body.squeeze"]
    assert "pooled to 1x1" in reasons["body.excite"]


@torch.no_grad()
def test_a_closed_channel_before_squeeze_and_excitation_stays_closed():
    """The mask is applied before the pooling, so skipping the channel everywhere computes the same."""
    model = Headed(SqueezeExcite()).eval()
    x = torch.randn(2, 3, 12, 12)
    net = gate(model, DualGating(spatial=False), x)
    (name,) = [spec.name for spec in net.plan.gates]
    decisions = net.open_decisions(2)
    decisions[name].mask[:, 3:9] = 0
    pruned = net.replay(x, decisions)
    body = model.body
    y = F.relu(body.depthwise(F.relu(body.expand(model.stem(x)))))
    y[:, 3:9] = 0
    scale = torch.sigmoid(body.excite(F.relu(body.squeeze(y.mean((2, 3), keepdim=True)))))
    expected = model.head((model.stem(x) + body.project(y * scale)).mean((2, 3)))
    torch.testing.assert_close(pruned, expected)


@pytest.mark.parametrize("options", [{"dilation": 2}, {"groups": 4}, {"bias": False}])
@pytest.mark.parametrize("size", [(12, 16), (13, 11)])
def test_gating_leaves_all_kinds_of_convolutions_as_they_were(options, size):
    block = Block()
    padding = 2 if options.get("dilation") == 2 else 1
    block.body[2] = nn.Conv2d(8, 8, 3, padding=padding, **options)
    model = Headed(block).eval()
    x = torch.randn(3, 3, *size)
    net = gate(model, DualGating(), x)
    with torch.no_grad():
        torch.testing.assert_close(net.replay(x, net.open_decisions(3)), model(x))
        shortcut = model.head(model.stem(x).mean((2, 3)))
        torch.testing.assert_close(net.replay(x, net.closed_decisions(3)), shortcut)


def test_a_network_without_residual_branches_gets_channel_gates():
    plain = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 4))
    net = gate(plain, DualGating(), torch.randn(2, 3, 8, 8))
    assert [(spec.name, str(spec.kind)) for spec in net.plan.gates] == [("2.channel", "channel")]
    assert any(r.name == "0" and "reads the image" in r.reason for r in net.plan.skipped)
