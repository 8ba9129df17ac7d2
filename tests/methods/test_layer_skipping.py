"""LayerSkipping's target loss, its gates at the start, and that nothing of a closed branch is computed."""

import pytest
import torch

import convgate
from convgate import LayerSkipping, gate, plan
from convgate.errors import InputError, PlanError
from convgate.gating import Decision, Decisions, Tiles
from convgate.models import create


def test_one_gate_per_branch():
    planned = plan(create("resnet50").eval(), LayerSkipping(), torch.zeros(1, 3, 64, 64))
    assert [spec.shape for spec in planned.gates] == [(1, 1, 1)] * 16
    assert all(len(site.gates) == 1 for site in planned.sites)


def test_the_loss_by_hand(small):
    net, _ = small
    masks = {"a.branch": [1.0, 0.0, 1.0, 1.0], "b.branch": [0.0, 0.0, 1.0, 0.0]}
    decisions = Decisions((n, Decision(Tiles(None), torch.tensor(m).view(4, 1, 1, 1))) for n, m in masks.items())
    loss = LayerSkipping(target=0.5).penalty(decisions, net.ledger, 0.0)["target"]
    # 2 * mean of (0.5 - 0.75)^2 and (0.5 - 0.25)^2
    assert loss.item() == pytest.approx(2 * 0.0625)
    method = LayerSkipping(target=0.5, targets={"a": 1.0}, target_weight=1.0)
    assert method.penalty(decisions, net.ledger, 0.0)["target"].item() == pytest.approx((0.0625 + 0.0625) / 2)
    method = LayerSkipping(target=0.5, targets={"b": 1.0}, target_weight=1.0)
    assert method.penalty(decisions, net.ledger, 0.0)["target"].item() == pytest.approx((0.0625 + 0.5625) / 2)


def test_gates_start_open_with_probability_087():
    """ConvNet-AIG's code: biases 0.1 and 2 of two classes; weights N(0, 0.001)."""
    torch.manual_seed(0)
    net = gate(create("cifar_resnet110"), LayerSkipping(init="paper"), torch.zeros(2, 3, 32, 32))
    weights = torch.cat([g.head.expand.weight.flatten() for _, g in net.gate_modules()])
    assert weights.std().item() == pytest.approx(2**0.5 * 1e-3, rel=0.1)
    biases = torch.cat([g.head.expand.bias for _, g in net.gate_modules()])
    assert torch.sigmoid(biases).tolist() == pytest.approx([0.87] * 54, abs=0.001)
    assert {g.head.reduce.out_features for _, g in net.gate_modules()} == {16}


@pytest.mark.parametrize(
    ("model", "ungated"),
    [
        # What is left: the stem, the shortcuts' convolutions, the classifier.
        ("cifar_resnet20", {"conv1", "layer2.0.downsample.0", "layer3.0.downsample.0", "fc"}),
        ("resnet18", {"conv1", "fc", *(f"layer{i}.0.downsample.0" for i in (2, 3, 4))}),
    ],
)
@torch.no_grad()
def test_nothing_of_a_closed_branch_is_computed(model, ungated):
    x = torch.randn(1, 3, 64, 64)
    net = gate(create(model).eval(), LayerSkipping(), x)
    closed = net.closed_decisions(1)
    run = convgate.compile(net).run(x.numpy(), given={name: d.mask.numpy() for name, d in closed.items()})
    executed = {name for name, macs in run.by_layer.items() if macs.any() and not name.startswith("gates.")}
    assert executed == ungated


@torch.no_grad()
def test_squeeze_and_excitation_of_a_closed_branch_is_not_computed_either():
    x = torch.randn(1, 3, 64, 64)
    net = gate(create("mobilenet_v3_large").eval(), LayerSkipping(), x)
    closed = net.closed_decisions(1)
    run = convgate.compile(net).run(x.numpy(), given={name: d.mask.numpy() for name, d in closed.items()})
    inside = [net.plan.layer_names[conv] for site in net.plan.sites for conv in site.convs]
    assert any("fc1" in name for name in inside)
    assert not any(run.by_layer[name].any() for name in inside)


def test_training_samples_and_the_gradient_is_the_sigmoids(make_small):
    net, x = make_small(LayerSkipping(), n=200)
    net.train()
    _, decisions = net.decide(x)
    for decision in decisions.values():
        # P(open) = sigmoid(logit): the mean over many images is near.
        probability = torch.sigmoid(decision.logits)
        assert decision.mask.mean().item() == pytest.approx(probability.mean().item(), abs=0.12)
        assert set(decision.mask.unique().tolist()) <= {0.0, 1.0}


def test_targets_of_unknown_branches_are_named():
    with pytest.raises(PlanError, match=r"'layer9'.*layer1\.0"):
        plan(create("cifar_resnet8"), LayerSkipping(targets={"layer9": 1.0}), torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    "options",
    [
        {"target": 1.5},
        {"target": "half"},
        {"targets": {"a": 2}},
        {"targets": {3: 0.5}},
        {"targets": [0.5]},
        {"target_weight": -1},
        {"hidden": 0},
        {"temperature": 0.0},
        {"bias": "two"},
        {"init": "random"},
    ],
    ids=str,
)
def test_bad_options_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        LayerSkipping(**options)
