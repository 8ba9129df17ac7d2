"""Networks with fixed masks: what they compute, and what they cost."""

import copy

import pytest
import torch

from convgate.errors import BudgetError, InputError
from convgate.gated import FixedNetwork, gate, random_masks
from convgate.methods import DualGating
from convgate.models import create


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return gate(create("cifar_resnet8"), DualGating(), torch.zeros(2, 3, 16, 16)).eval()


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.9])
def test_random_masks_spend_the_budget_and_gates_nothing(net, budget):
    fixed = FixedNetwork(net, random_masks(net, budget, seed=3)).eval()
    x = torch.randn(3, 3, 16, 16)
    y, decisions = fixed.decide(x)
    cost = fixed.cost(decisions)
    assert cost.ratio.tolist() == pytest.approx([budget] * 3, rel=0.01)
    assert int(cost.macs[0]) == sum(int(macs[0]) for macs in cost.by_layer.values())
    assert not any(name.startswith("gates.") for name in cost.by_layer)
    assert torch.equal(y, net.replay(x, decisions))
    assert torch.equal(y, fixed(x))


def test_they_depend_on_the_seed_alone(net):
    first, again, other = (random_masks(net, 0.5, seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name].mask, again[name].mask) for name in first)
    assert any((first[name].mask != other[name].mask).any() for name in first)


def test_gates_learn_nothing_and_masks_are_saved(net):
    fixed = FixedNetwork(copy.deepcopy(net), random_masks(net, 0.5, seed=0)).train()
    fixed(torch.randn(4, 3, 16, 16)).square().mean().backward()
    learned = {name for name, parameter in fixed.named_parameters() if parameter.grad is not None}
    assert not any(".gates." in name for name in learned)
    assert "network.conv1.weight" in learned
    other = FixedNetwork(copy.deepcopy(net), random_masks(net, 0.5, seed=1)).eval()
    other.load_state_dict(fixed.state_dict())
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(other(x), fixed.eval()(x))


def test_what_cannot_be_fixed_is_refused(net):
    with pytest.raises(InputError, match="of 2 images"):
        FixedNetwork(net, net.open_decisions(2))
    with pytest.raises(InputError, match="another network"):
        FixedNetwork(gate(create("cifar_resnet14"), DualGating(), torch.zeros(2, 3, 16, 16)), net.open_decisions(1))
    with pytest.raises(BudgetError, match="cannot be reached"):
        random_masks(net, 0.001, seed=0)
