"""Majority masks: by hand, and what is left of a network with them."""

import pytest
import torch

from convgate.analysis import Census, compare_with_static, evaluate, majority_masks
from convgate.errors import InputError
from convgate.gated import gate
from convgate.gating import ChannelGroups, Decision, Decisions
from convgate.methods import DualGating
from convgate.models import create


def decided(*rows):
    return Decisions({"gate": Decision(ChannelGroups(3), torch.tensor(rows).float()[:, :, None, None])}, (8, 8))


def test_a_unit_is_open_if_it_is_for_more_than_half_of_the_images():
    running = Census()
    running.add(decided([1, 1, 0], [1, 0, 0]))
    running.add(decided([1, 1, 1], [1, 0, 0]))
    majority = running.majority()
    assert running.images == 4
    assert majority.size == (8, 8)
    assert majority["gate"].mask.flatten().tolist() == [1, 0, 0]
    counted = running.gates()["gate"]
    assert (counted.always_on, counted.always_off, counted.input_dependent, counted.density) == (1, 0, 2, 7 / 12)


def test_images_of_several_sizes_have_no_majority():
    running = Census()
    with pytest.raises(InputError, match="no decisions"):
        running.majority()
    running.add(decided([1, 1, 0]))
    with pytest.raises(InputError, match="one size"):
        running.add(Decisions({"gate": Decision(ChannelGroups(2), torch.ones(1, 2, 1, 1))}))


@torch.no_grad()
def test_a_network_whose_units_never_change_is_its_own_majority():
    torch.manual_seed(0)
    net = gate(create("cifar_resnet8"), DualGating(), torch.zeros(2, 3, 16, 16)).train()
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,))) for _ in range(2)]
    measured = evaluate(net, batches)  # all gates are open at the start
    figures = compare_with_static(net, measured.spending, batches, batches)
    assert net.training
    assert (figures.accuracy, figures.changing, figures.images) == (measured.accuracy, 0.0, 16)
    assert figures.macs_ratio == 1.0  # without the gates' own
    assert measured.spending.ratio > 1.0


@torch.no_grad()
def test_masks_follow_what_gates_decide():
    torch.manual_seed(0)
    net = gate(create("cifar_resnet8"), DualGating(init="paper"), torch.zeros(2, 3, 16, 16)).eval()
    x = torch.randn(5, 3, 16, 16)
    masks, images = majority_masks(net, [(x, torch.zeros(5))])
    _, decisions = net.decide(x)
    assert images == 5
    for name, decision in decisions.items():
        assert torch.equal(masks[name].mask[0], (decision.mask.mean(0) > 0.5).float())
    assert 0 < evaluate(net, [(x, torch.zeros(5))]).spending.changing < 1
