"""Sums, dense connections and concatenations, on small networks whose structure is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convgate.models import create
from convgate.reading import concatenations, dense_layers, residual_units, trace


def conv(inputs, outputs, kernel=3):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs))


def read(model, channels=3, size=16):
    return trace(model.eval(), torch.zeros(1, channels, size, size))


def gated(joins, traced):
    """The convolutions at the ends of the joined maps, per join."""
    return [[traced.node(c).target if c else None for c in join.convs] for join in joins]


class Mix(nn.Module):
    """A module of two maps, as in Shake-Shake."""

    def forward(self, a, b):
        return a * 0.3 + b * 0.7


class TwoBranches(nn.Module):
    def __init__(self, mixed, projected):
        super().__init__()
        self.a = nn.Sequential(*conv(4, 8), nn.ReLU(), *conv(8, 8))
        self.b = nn.Sequential(*conv(4, 8), nn.ReLU(), *conv(8, 8))
        self.shortcut = nn.Conv2d(4, 8, 1) if projected else None
        self.inputs = conv(3, 4)
        self.mix = Mix() if mixed else None

    def forward(self, x):
        x = self.inputs(x)
        y = F.relu(x)
        a, b = self.a(y), self.b(y)
        shortcut = self.shortcut(y) if self.shortcut is not None else F.pad(x, (0, 0, 0, 0, 2, 2))
        return shortcut + (self.mix(a, b) if self.mix is not None else a + b)


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
def test_every_branch_of_a_unit_counts(mixed, projected):
    traced = read(TwoBranches(mixed, projected))
    units, rejected = residual_units(traced)
    assert gated(units, traced) == [["a.3", "b.3"]]
    assert not rejected


class TwoFlows(nn.Module):
    """A shortcut of as many convolutions as the branch, but side by side."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(*conv(3, 8), nn.ReLU(), *conv(8, 8))
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.branch(x) + torch.cat([self.first(x), self.second(x)], 1)


def test_depth_tells_branch_from_shortcut():
    traced = read(TwoFlows())
    assert gated(residual_units(traced)[0], traced) == [["branch.3"]]


class Ambiguous(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.a(x) + self.b(x)


class EndsInAProduct(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return x + 0.5 * self.a(x)


class SideExit(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        y = self.a(x)
        return (x + self.b(y)).mean((2, 3)) + y.mean((2, 3))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Ambiguous(), "none is a shortcut"),
        (EndsInAProduct(), "something else than a convolution"),
        (SideExit(), "also read elsewhere"),
    ],
)
def test_units_that_are_left_alone_say_why(model, reason):
    units, rejected = residual_units(read(model))
    assert not units
    assert len(rejected) == 1
    assert reason in rejected[0].reason


class Dense(nn.Module):
    """A block of four layers, kept as a list (torchvision's way) or as one growing map."""

    def __init__(self, as_list):
        super().__init__()
        self.as_list = as_list
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 + 2 * i), nn.ReLU(), nn.Conv2d(4 + 2 * i, 2, 3, padding=1)) for i in range(4)
        )
        self.transition = nn.Conv2d(12, 6, 1)
        self.next = nn.ModuleList(nn.Conv2d(6 + 2 * i, 2, 3, padding=1) for i in range(2))

    def block(self, x, layers):
        if self.as_list:
            maps = [x]
            for layer in layers:
                maps.append(layer(torch.cat(maps, 1)))
            return torch.cat(maps, 1)
        for layer in layers:
            x = torch.cat([x, layer(x)], 1)
        return x

    def forward(self, x):
        x = self.block(self.stem(x), self.layers)
        return self.block(F.avg_pool2d(self.transition(x), 2), self.next)


@pytest.mark.parametrize("as_list", [True, False])
def test_all_layers_of_a_dense_block_but_the_first(as_list):
    traced = read(Dense(as_list))
    assert gated(dense_layers(traced), traced) == [["layers.1.2"], ["layers.2.2"], ["layers.3.2"], ["next.1"]]


class Parallel(nn.Module):
    """Two modules of parallel maps; the second has one concatenation inside another, and a pooled map."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.c, self.d, self.e = (nn.Conv2d(8, 2, k, padding=k // 2) for k in (1, 3, 5))

    def forward(self, x):
        x = torch.cat([F.relu(self.a(x)), F.relu(self.b(x))], 1)
        inner = torch.cat([self.d(x), self.e(x)], 1)
        return torch.cat([self.c(x), inner, F.max_pool2d(x, 3, 1, 1)], 1)


def test_concatenations_are_taken_part_by_part():
    traced = read(Parallel())
    assert gated(concatenations(traced), traced) == [["a", "b"], ["c", "d", "e", None]]
    assert not dense_layers(traced)
    assert not residual_units(traced)[0]


@pytest.mark.parametrize("model", ["resnet18", "densenet121", "googlenet"])
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
def test_a_network_has_one_kind_of_join(model):
    traced = read(create(model), size=64)
    found = [bool(residual_units(traced)[0]), bool(dense_layers(traced))]
    assert found == [model == "resnet18", model == "densenet121"]
