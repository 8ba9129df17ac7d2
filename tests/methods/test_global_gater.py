"""GlobalGater against GaterNet's paper: where its gates sit, its gater, its loss, its training."""

import pytest
import torch
from torch import nn

from convgate import GlobalGater, gate, load, plan, save
from convgate.errors import CheckpointError, InputError, PlanError
from convgate.gating import ChannelGroups
from convgate.methods import load_gater_weights
from convgate.methods.global_gater import Gater
from convgate.models import create

# Gated filters: tables 1 and 3 of the paper, each count derived again by arithmetic.
FILTERS = {
    "cifar_resnet20": (336, 32),
    "cifar_resnet56": (1008, 32),
    "resnet34": (3776, 64),
    "resnet101": (32512, 64),
    "resnet152": (47872, 64),
    "timm/inception_v4": (16608, 107),
    # Not in the paper; (5 + 11 + 23 + 15) layers of 32 filters.
    "densenet121": (1728, 64),
}


@pytest.mark.parametrize("model", FILTERS)
def test_gated_filters(model):
    filters, size = FILTERS[model]
    with torch.device("meta"):
        planned = plan(create(model).eval(), GlobalGater(), torch.zeros(1, 3, size, size))
    assert sum(spec.units for spec in planned.gates) == filters
    assert all(isinstance(spec.kind, ChannelGroups) for spec in planned.gates)


# 0.55M and 1.14M in table 1; the exact totals derived by arithmetic for the released code's gater, which has no norm.
@pytest.mark.parametrize(("model", "parameters"), [("cifar_resnet20", 547_842), ("cifar_resnet56", 1_137_186)])
def test_parameters_with_the_gater_of_the_released_code(model, parameters):
    net = gate(create(model), GlobalGater(norm=False), torch.zeros(1, 3, 32, 32))
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_gates_follow_the_norm_and_precede_the_sum():
    """The released code: y = bn2(conv2(.)); y *= gate; y += shortcut; relu."""
    planned = plan(create("cifar_resnet8").eval(), GlobalGater(), torch.zeros(1, 3, 32, 32))
    assert [m.node for site in planned.sites for m in site.masks] == [
        "layer1_0_bn2",
        "layer2_0_bn2",
        "layer3_0_bn2",
    ]
    assert all(m.training for site in planned.sites for m in site.masks)


def test_the_gater_is_a_network_without_its_output_layer_and_a_bottleneck():
    net = gate(create("cifar_resnet8"), GlobalGater(), torch.zeros(2, 3, 32, 32))
    trunk = net.convgate.trunk
    assert isinstance(trunk, Gater)
    assert (trunk.reduce.in_features, trunk.reduce.out_features) == (64, 8)
    assert isinstance(trunk.norm, nn.BatchNorm1d)
    assert isinstance(trunk.network.fc, nn.Identity)
    assert {type(g.head.linear).__name__ for _, g in net.gate_modules()} == {"Linear"}
    large = plan(create("resnet18"), GlobalGater(), torch.zeros(1, 3, 224, 224))
    assert {spec.channels for spec in large.gates} == {256}


@torch.no_grad()
def test_decisions_are_two_linear_layers_behind_the_gater(make_small):
    net, x = make_small(GlobalGater(bottleneck=5, gater="cifar_resnet8"))
    _, decisions = net.decide(x)
    features = net.convgate.trunk.network(x)
    hidden = torch.relu(net.convgate.trunk.norm(net.convgate.trunk.reduce(features)))
    for name, module in net.gate_modules():
        logits = hidden @ module.head.linear.weight.T + module.head.linear.bias + module.offset.flatten()
        torch.testing.assert_close(decisions[name].logits.flatten(1), logits)


def test_the_gaters_macs_are_counted_for_every_image():
    net = gate(create("cifar_resnet20").eval(), GlobalGater(), torch.zeros(1, 3, 32, 32))
    # A ResNet-20's 40,813,184 without its 640 of the classifier, and FC1; FC2 is counted gate by gate.
    assert net.ledger.gates["trunk"] == 40_813_184 - 640 + 64 * 8
    assert net.ledger.gate_macs == 40_813_184 - 640 + 64 * 8 + 8 * 336
    cost = net.cost(net.closed_decisions(2))
    assert cost.by_layer["gates.trunk"].tolist() == [40_813_056] * 2


def test_one_coin_for_all_gates_of_an_image(make_small):
    net, x = make_small(GlobalGater(), n=64)
    net.train()
    for _, module in net.gate_modules():
        module.offset.zero_()
        nn.init.zeros_(module.head.linear.weight)  # noise alone: a soft mask is not saturated everywhere
    torch.manual_seed(0)
    _, decisions = net.decide(x)
    binary = torch.stack([((d.mask == 0) | (d.mask == 1)).flatten(1).all(1) for d in decisions.values()])
    assert torch.equal(binary.all(0), binary.any(0))
    assert 16 < binary.all(0).sum() < 48


def test_the_penalty_is_the_mean_gate_and_reaches_the_gater_alone(make_small):
    method = GlobalGater(sparsity_weight=0.3)
    net, x = make_small(method)
    net.train()
    _, decisions = net.decide(x)
    term = method.penalty(decisions, net.ledger, 0.0)["sparsity"]
    total = sum(d.mask.sum() for d in decisions.values()) / sum(spec.units for spec in net.plan.gates) / len(x)
    torch.testing.assert_close(term, 0.3 * total)
    term.backward()
    for name, parameter in net.named_parameters():
        if name.startswith("gates."):
            assert parameter.grad is not None, name
        else:
            assert parameter.grad is None, f"the backbone's {name} learns from the penalty"


def test_dropout_rises_with_progress(make_small):
    method = GlobalGater(dropout=0.4, bias=20.0)
    net, x = make_small(method, n=200)
    net.train()
    for _, module in net.gate_modules():
        module.offset.zero_()
        nn.init.constant_(module.head.linear.bias, 20.0)  # open, whatever the noise
    for progress, dropped in ((0.0, 0.0), (0.5, 0.2), (1.0, 0.4)):
        method.schedule(net, progress)
        _, decisions = net.decide(x)
        masks = torch.cat([d.mask.flatten(1) for d in decisions.values()], 1)
        assert (masks == 0).float().mean().item() == pytest.approx(dropped, abs=0.03)
    net.eval()
    assert all(d.mask.all() for d in net.decide(x)[1].values())
    assert not any(key.endswith(".dropout") for key in net.state_dict())


class Tiny(nn.Module):
    def __init__(self, **returns):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.keep_map = returns.get("keep_map", False)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        return y if self.keep_map else y.mean((2, 3))


def test_a_gater_of_ones_own_is_copied_with_its_weights():
    gater = Tiny()
    before = gater.conv.weight.clone()
    net = gate(create("cifar_resnet8"), GlobalGater(gater=gater, bottleneck=4), torch.zeros(2, 3, 32, 32))
    assert torch.equal(net.convgate.trunk.network.conv.weight, before)
    with torch.no_grad():
        net.convgate.trunk.network.conv.weight.zero_()
    assert torch.equal(gater.conv.weight, before)
    assert net.plan.method["options"]["gater"] == {"class": "Tiny"}


def test_a_gater_by_name_and_options_is_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    method = GlobalGater(gater={"name": "cifar_resnet8", "options": {"shortcut": "A", "width": 4}}, bottleneck=4)
    net = gate(create("cifar_resnet8").eval(), method, torch.zeros(2, 3, 32, 32))
    assert not any(
        "downsample" in name and name.endswith("weight") for name, _ in net.convgate.trunk.named_parameters()
    )
    save(net, tmp_path / "net.safetensors")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(load(tmp_path / "net.safetensors")(x), net(x))


@pytest.mark.parametrize(
    "gater", [{}, {"name": 3}, {"name": "resnet18", "option": {}}, {"name": "resnet18", "options": 1}]
)
def test_a_gater_that_is_no_name_is_refused(gater):
    with pytest.raises(InputError, match="a model's name, its name and options, or a module"):
        GlobalGater(gater=gater)


@pytest.mark.parametrize(
    ("gater", "message"),
    [(Tiny(keep_map=True), r"returns \[1, 6, 15, 15\]"), (nn.Linear(5, 5), "fails on images of shape")],
)
def test_gaters_that_do_not_fit_are_refused(gater, message):
    with pytest.raises(PlanError, match=message):
        plan(create("cifar_resnet8"), GlobalGater(gater=gater), torch.zeros(1, 3, 32, 32))


def test_pretrained_weights_with_and_without_the_output_layer():
    example = torch.zeros(2, 3, 32, 32)
    trained = create("cifar_resnet20", num_classes=7).eval()
    net = gate(create("cifar_resnet8").eval(), GlobalGater(), example)
    for drop in (False, True):
        state = {k: v for k, v in trained.state_dict().items() if not (drop and k.startswith("fc."))}
        for parameter in net.convgate.trunk.parameters():
            nn.init.zeros_(parameter)
        load_gater_weights(net, state)
        mine = net.convgate.trunk.network.state_dict()
        assert all(torch.equal(mine[key], state[key]) for key in mine)
    with pytest.raises(CheckpointError, match="do not fit the gater"):
        load_gater_weights(net, create("cifar_resnet56").state_dict())
    with pytest.raises(CheckpointError, match="do not fit the gater"):
        load_gater_weights(net, create("cifar_resnet8").state_dict())


def test_weights_for_a_network_without_a_gater_are_refused(small):
    with pytest.raises(InputError, match="DualGating, which has no gater"):
        load_gater_weights(small[0], {})
    with pytest.raises(InputError, match="these gates have no gater"):
        GlobalGater().load_pretrained(small[0].convgate, {})


def test_what_changes_in_training_is_given_the_gates_or_their_network():
    method = GlobalGater(gater="cifar_resnet8", dropout=0.2)
    net = gate(create("cifar_resnet8"), method, torch.zeros(2, 3, 16, 16))
    for given, progress in ((net.convgate, 0.5), (net, 0.25)):
        method.schedule(given, progress)
        assert float(net.convgate.trunk.dropout) == pytest.approx(0.2 * progress)
    with pytest.raises(InputError, match=r"Linear has no gates; .* net\.convgate"):
        method.schedule(nn.Linear(1, 1), 0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"gater": 3},
        {"gater": {"class": "Tiny"}},
        {"bottleneck": 0},
        {"bottleneck": "wide"},
        {"norm": 1},
        {"sparsity_weight": -0.1},
        {"dropout": 1.1},
        {"bias": float("inf")},
    ],
    ids=str,
)
def test_bad_options_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        GlobalGater(**options)


@pytest.mark.parametrize("name", ["resnet1800", "densenet12"])
def test_unknown_gaters_are_named(name):
    with pytest.raises(InputError, match=name):
        plan(create("cifar_resnet8"), GlobalGater(gater=name), torch.zeros(1, 3, 32, 32))
