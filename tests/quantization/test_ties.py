"""Residual sums share the scale of their shortcut where ranges are alike, and only there."""

import numpy as np
import pytest
import torch
from torch import nn

import convgate
from convgate.quantization import fake_quantized
from convgate.quantization.ties import MOST_APART, joined, tied

ALONE = {name: frozenset(name) for name in "abcd"}
CHAIN = [("a", "b"), ("b", "c"), ("c", "d")]


def test_pairs_make_groups():
    groups = joined(ALONE, [("a", "b"), ("c", "b")])
    assert groups == {**dict.fromkeys("abc", frozenset("abc")), "d": frozenset("d")}
    assert joined(ALONE, []) == ALONE


def test_a_stage_of_like_ranges_has_one_scale():
    greatest = {"a": 1.0, "b": 2.0, "c": MOST_APART, "d": 0.0}  # of d nothing is known
    assert set(tied(ALONE, CHAIN, greatest).values()) == {frozenset("abcd")}
    assert tied(ALONE, [], greatest) == ALONE


def test_what_grows_from_block_to_block_is_cut_where_it_has_grown_too_far():
    groups = tied(ALONE, CHAIN, {"a": 1.0, "b": 5.0, "c": 25.0, "d": 125.0})
    assert set(groups.values()) == {frozenset("ab"), frozenset("cd")}


class Block(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.a, self.b = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.b.weight.data *= factor

    def forward(self, x):
        return torch.relu(x + self.b(torch.relu(self.a(x))))


def growing(factor):
    """A network whose blocks add up to ever more, and images."""
    torch.manual_seed(0)
    stem, blocks = nn.Conv2d(3, 16, 3, padding=1), [Block(factor) for _ in range(6)]
    network = nn.Sequential(stem, nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()
    return network, torch.randn(8, 3, 24, 24)


@torch.no_grad()
@pytest.mark.parametrize("factor", [1, 10, 30])
def test_training_rounds_as_finely(factor):
    network, x = growing(factor)
    expected = network(x)
    with fake_quantized(network, x):
        network.train()(x)  # ranges are followed
        found = network.eval()(x)
    assert (found - expected).norm() < 0.06 * expected.norm()


@torch.no_grad()
@pytest.mark.parametrize("factor", [1, 10, 20, 30])
def test_maps_that_grow_by_orders_of_magnitude(factor):
    network, x = growing(factor)
    expected = network(x).numpy()
    error = {}
    for tie in (False, True):
        found = convgate.quantize(network, [x], tie=tie, threads=1)(x.numpy())
        error[tie] = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error[False] < 0.02
    assert error[True] < 0.06
