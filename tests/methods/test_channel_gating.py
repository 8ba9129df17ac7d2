"""ChannelGating's equations on cases worked out by hand, and its options."""

import math
import re

import pytest
import torch
from torch import nn

import convgate
from convgate import ChannelGating, Decision, Decisions, calibrate, gate, plan
from convgate.analysis import cost_maps
from convgate.errors import BudgetError, InputError
from convgate.gating import Activations, ThresholdHead
from convgate.models import create


def two_channels(method, threshold=(0.0,)):
    """conv 1x1 (1 -> 2 channels, weights 1 and 2), then the gated conv 1x1 (2 -> n channels, weights 3 and 10)."""
    n = len(threshold)
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, n, 1, bias=False))
    model[0].weight.data = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    model[1].weight.data = torch.tensor([3.0, 10.0]).view(1, 2, 1, 1).repeat(n, 1, 1, 1)
    net = gate(model.eval(), method, torch.zeros(1, 1, 2, 2))
    head = net.convgate.gates.get_submodule("1.activation").head
    head.threshold.data = torch.tensor(threshold)
    head.norm.reset_running_stats()
    head.norm.eps = 0.0  # so that the case can be worked out in round numbers
    return net, head


# The partial sum is 3x, the rest 20x.
IMAGE = torch.tensor([[[[1.0, -1.0], [0.5, 4.0]]]])


def test_equations_by_hand():
    net, _ = two_channels(ChannelGating(partitions=2, groups=False), (3.0,))
    y, decisions = net.decide(IMAGE)
    decision = decisions["1.activation"]
    assert isinstance(decision.kind, Activations)
    # 3x - 3 > 0, strictly: x = 1 stays closed.
    assert decision.logits.tolist() == [[[[0.0, -6.0], [-1.5, 9.0]]]]
    assert decision.mask.tolist() == [[[[0, 0], [0, 1]]]]
    assert y.tolist() == [[[[3.0, -3.0], [1.5, 92.0]]]]
    cost = net.cost(decisions)
    # 2 MACs a position of the first convolution; 1 of the base path and 1 more where the gate is open.
    assert {name: macs.tolist() for name, macs in cost.by_layer.items()} == {
        "0": [8],
        "1": [4 + 1],
        "gates.1.activation": [0],
    }
    assert cost.dense == 16


def test_partial_sums_are_normalised_by_hand():
    net, head = two_channels(ChannelGating(partitions=2, groups=False), (0.5,))
    head.norm.running_mean.fill_(3.0)
    head.norm.running_var.fill_(4.0)
    _, decisions = net.decide(IMAGE)
    assert decisions["1.activation"].logits.tolist() == [[[[-0.5, -3.5], [-1.25, 4.0]]]]


def test_neighbouring_outputs_share_the_mean_of_their_excesses():
    net, _ = two_channels(ChannelGating(partitions=2, groups=False, group=2), (0.0, 2.0, 12.0))
    y, decisions = net.decide(IMAGE)
    # Outputs 0 and 1 decide together by 3x - 1, output 2 alone by 3x - 12.
    assert decisions["1.activation"].logits.tolist() == [[[[2, -4], [0.5, 11]], [[-9, -15], [-10.5, 0]]]]
    assert decisions["1.activation"].mask.tolist() == [[[[1, 0], [1, 1]], [[0, 0], [0, 0]]]]
    assert y[0, :, 0, 0].tolist() == [23, 23, 3]
    cost = net.cost(decisions).by_layer["1"]
    assert cost.dtype == torch.int64
    assert cost.tolist() == [3 * 4 + 3 * 2]


def test_the_papers_form_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False), nn.BatchNorm2d(1, eps=1e-12))
    model[0].weight.data = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    model[1].weight.data = torch.tensor([3.0, 10.0]).view(1, 2, 1, 1)
    model[2].weight.data.fill_(5.0)
    model[2].bias.data.fill_(1.0)
    model[2].running_var.fill_(4.0)
    net = gate(
        model.eval(), ChannelGating(partitions=2, groups=False, form="paper", init="paper"), torch.zeros(1, 1, 2, 2)
    )
    own = net.convgate.paths.get_submodule("1.base_norm")
    # Its own statistics, the scale and shift that it was gated with.
    assert (own.weight.item(), own.bias.item(), own.running_var.item()) == (5.0, 1.0, 1.0)
    own.running_mean.fill_(1.0)
    own.weight.data.fill_(2.0)
    y, decisions = net.decide(IMAGE)
    assert decisions["1.activation"].mask.tolist() == [[[[1, 0], [1, 1]]]]
    # Open: 5 * 23x / 2 + 1. Closed: 2 * (3x - 1) + 1.
    assert y.tolist() == [[[[58.5, -7.0], [29.75, 231.0]]]]


def test_the_gradient_is_that_of_the_smooth_step():
    """Against finite differences of the surrogate, sigmoid(alpha * logit) for the step and numbers for the paths."""
    alpha, full, base, h = 2.0, 7.0, 3.0, 1e-6
    for sparse in (False, True):
        method = ChannelGating(alpha=alpha, sparse=sparse)
        spec = plan(create("cifar_resnet8").eval(), method, torch.zeros(1, 3, 32, 32)).gates[0]
        step = method.gate(spec).estimator
        logits = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
        mask = step(logits)
        assert mask.tolist() == (logits > 0).double().tolist()
        (full * mask + base * (1 - mask)).sum().backward()
        left, right = (
            full * s + base * (1 - s) for s in (torch.sigmoid(alpha * (logits.detach() + d)).double() for d in (-h, h))
        )
        expected = (right - left) / (2 * h)
        if sparse:
            expected[logits < 0] = 0  # strictly: at 0 the gate is closed and still learns
        torch.testing.assert_close(logits.grad, expected, rtol=1e-6, atol=1e-8)


def test_a_networks_gradient_against_finite_differences():
    """In float64: the step replaced by the sigmoid, the thresholds moved one by one."""
    torch.manual_seed(0)
    head = ThresholdHead(4, threshold=0.2).double()
    head.norm.eval()
    head.norm.running_var.uniform_(0.5, 2.0)
    partial, full = torch.randn(2, 4, 3, 3).double(), torch.randn(2, 4, 3, 3).double()

    def surrogate(threshold):
        soft = torch.sigmoid(2.0 * ((partial / (head.norm.running_var + 1e-5).sqrt()[:, None, None]) - threshold))
        return (full * soft + partial * (1 - soft)).sum()

    estimator = ChannelGating(sparse=False).gate(plan_of_four().gates[0]).estimator
    mask = estimator(head(partial))
    (full * mask + partial * (1 - mask)).sum().backward()
    for c in range(4):
        nudge = torch.zeros(4, 1, 1, dtype=torch.float64)
        nudge[c] = 1e-6
        at = head.threshold.detach()[:, None, None]
        expected = (surrogate(at + nudge) - surrogate(at - nudge)) / 2e-6
        assert head.threshold.grad[c].item() == pytest.approx(expected.item(), rel=1e-5)


def plan_of_four():
    return plan(create("cifar_resnet8", width=4).eval(), ChannelGating(), torch.zeros(1, 3, 16, 16))


def test_the_penalty_pulls_thresholds_to_the_target():
    """Source: CGNet's code: 1e-4 * sum over layers and channels of (Delta - T)^2."""
    method = ChannelGating(threshold=0.5, target=2.0, convs="first")
    net = gate(create("cifar_resnet8", width=4), method, torch.zeros(2, 3, 16, 16))
    _, decisions = net.decide(torch.randn(2, 3, 16, 16))
    assert method.penalty(decisions, net.ledger, 0.5) == {}
    term = method.terms(decisions, net.convgate, net.ledger, 0.5)["thresholds"]
    assert term.item() == pytest.approx(1e-4 * (4 + 8 + 16) * 1.5**2)
    term.backward()
    for _, module in net.gate_modules():
        torch.testing.assert_close(module.head.threshold.grad, torch.full_like(module.head.threshold, -3e-4))


# -- contracts -------------------------------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"form": "paper"},
    {"partitions": 2, "groups": False},
    {"partitions": 3},
    {"partitions": 8, "shuffle": True},
    {"partitions": 2, "shuffle": True, "form": "paper", "group": 7},
    {"convs": "first"},
    {"group": 16},
    {"group": 1000},
    {"sparse": False},
]


def weights_of_the_base_path(conv, method):
    """0 and 1 per weight, one by one as the method's description has it."""
    outputs, inputs = conv.weight.shape[:2]
    p = method.partitions
    order = list(range(inputs))
    if method.shuffle:
        order = [chunk * (inputs // p) + place for place in range(inputs // p) for chunk in range(p)]
    chosen = torch.zeros_like(conv.weight)
    for o in range(outputs):
        first = o // (outputs // p) * (inputs // p) if method.groups else 0
        for i in order[first : first + inputs // p]:
            chosen[o, i] = 1
    return chosen


@pytest.fixture(scope="module", params=OPTIONS, ids=str)
def case(request, randomise):
    """(method, network, original, images)."""
    method = ChannelGating(**request.param)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 14, 12)
    model = randomise(create("cifar_resnet14", width=24), x)
    net = gate(model, method, x)
    with torch.no_grad():
        for _, module in net.gate_modules():
            for norm in module.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.running_mean.normal_()
                    norm.running_var.uniform_(0.5, 2.0)
    return method, net, model, x


@torch.no_grad()
def test_all_open_is_the_original(case):
    _, net, model, x = case
    y = model(x)
    assert (net.replay(x, net.open_decisions(2)) - y).abs().max() <= 1e-5 * y.abs().max()
    assert net.cost(net.open_decisions(1)).macs.item() == net.ledger.dense


@torch.no_grad()
def test_all_closed_is_the_base_path_alone(case):
    """The original with the weights outside of the base path set to zero, and (form "paper") its batch norms."""
    method, net, model, x = case
    modules, before = dict(model.named_modules()), {k: v.clone() for k, v in model.state_dict().items()}
    for partial in net.plan.partials:
        conv = modules[net.plan.layer_names[partial.conv]]
        conv.weight *= weights_of_the_base_path(conv, method)
        if method.form == "paper":
            name = net.plan.layer_names[partial.conv]
            norm = modules[re.sub(r"conv(\d)$", r"bn\1", name).replace("downsample.0", "downsample.1")]
            norm.load_state_dict(net.convgate.paths.get_submodule(partial.base_norm).state_dict())
    y = model(x)
    model.load_state_dict(before)
    assert (y - model(x)).abs().max() > 1e-2 * y.abs().max()
    closed = net.closed_decisions(2)
    assert (net.replay(x, closed) - y).abs().max() <= 1e-5 * y.abs().max()
    gated = sum(layer.macs for layer in net.ledger.layers if layer.gated)
    expected = net.ledger.dense - gated + gated // method.partitions
    assert net.cost(closed).macs.tolist() == [expected] * 2


@torch.no_grad()
def test_macs_are_those_counted_by_hand(case, random_decisions):
    method, net, _, _ = case
    decisions = random_decisions(net, 2, 0.3)
    cost = net.cost(decisions)
    modules = dict(net.named_modules())
    for partial in net.plan.partials:
        name = net.plan.layer_names[partial.conv]
        outputs, inputs, *kernel = modules[name].weight.shape
        mask = decisions[partial.gate].mask
        for n in range(2):
            macs = 0
            for o in range(outputs):
                opened = int(mask[n, o // method.group].sum())
                macs += math.prod(kernel) * inputs // method.partitions * mask[0, 0].numel()
                macs += math.prod(kernel) * (inputs - inputs // method.partitions) * opened
            assert cost.by_layer[name][n].item() == macs
    assert cost.macs.dtype == torch.int64


@torch.no_grad()
def test_cost_maps_lie_where_activations_are_open(case, random_decisions):
    _, net, _, _ = case
    decisions = random_decisions(net, 2, 0.3)
    maps = cost_maps(net, decisions)
    torch.testing.assert_close(maps.double().sum((1, 2)), net.cost(decisions).macs.double(), rtol=1e-6, atol=0)
    # One open activation in a map as fine as the image: its MACs are at its place.
    first = next(iter(decisions))
    one = Decisions({k: Decision(d.kind, torch.zeros_like(d.mask)) for k, d in decisions.items()})
    one[first].mask[:, 0, 3, 5] = 1
    saved = cost_maps(net, one) - cost_maps(net, net.closed_decisions(2))
    assert (saved > 1e-2).nonzero().tolist() == [[0, 3, 5], [1, 3, 5]]


def test_costs_are_differentiable_in_training(case):
    _, net, _, x = case
    net.train()
    try:
        _, decisions = net.decide(x)
        cost = net.cost(decisions)
        torch.testing.assert_close(cost.macs, net.cost(decisions.detach()).macs.float())
        cost.ratio.mean().backward()
        for name, module in net.gate_modules():
            assert (module.head.threshold.grad < 0).any(), name
    finally:
        net.zero_grad()
        net.eval()


# Source: derived by arithmetic from the settings of CGNet's two training scripts: the share 1/p + (1 - 1/p) * (open
# share) of each gated convolution of a ResNet-20 with option-A shortcuts (40,551,040 MACs, FC included).
@pytest.mark.parametrize(
    ("options", "closed", "factor"),
    [
        ({"partitions": 4, "convs": "first"}, 0.8, 1.387),
        ({"partitions": 4, "convs": "first"}, 1.0, 1.536),
        ({"partitions": 2, "convs": "all"}, 0.8, 1.655),
        ({"partitions": 2, "convs": "all"}, 1.0, 1.978),
    ],
)
def test_golden_macs(options, closed, factor):
    net = gate(create("cifar_resnet20", shortcut="A").eval(), ChannelGating(**options), torch.zeros(1, 3, 32, 32))
    assert net.ledger.dense == 40_551_040
    decisions = net.closed_decisions(5)
    for decision in decisions.values():
        # Exactly the share, over five images and all of their activations.
        decision.mask.view(-1)[: round(decision.mask.numel() * (1 - closed))] = 1
    macs = net.cost(decisions).macs
    assert round(5 * net.ledger.dense / int(macs.sum()), 3) == factor


# -- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"form": "paper"}, {"group": 8}, {"convs": "first"}], ids=str)
def test_calibration_shifts_the_thresholds(options, randomise):
    torch.manual_seed(0)
    x = torch.randn(16, 3, 16, 16)
    net = gate(randomise(create("cifar_resnet8", width=8), x), ChannelGating(**options), x)
    for _, module in net.gate_modules():
        module.head.norm.reset_running_stats()  # as if it had been trained: of the size of the sums
    target = 0.8 if options.get("convs") else 0.5
    calibrate(net, [x], target)
    with torch.no_grad():
        y, decisions = net.decide(x)
        assert net.cost(decisions).ratio.mean().item() == pytest.approx(target, rel=5e-3)
        # The shifts are per threshold: a network with the thresholds lowered by them decides alike.
        for _, module in net.gate_modules():
            offset = module.offset.flatten().repeat_interleave(net.plan.gates[0].group)
            module.head.threshold -= offset[: len(module.head.threshold)]
            module.offset.zero_()
        torch.testing.assert_close(net(x), y, rtol=1e-4, atol=1e-4)


def test_budgets_below_the_base_path_are_refused():
    net = gate(create("cifar_resnet8", width=8).eval(), ChannelGating(), torch.zeros(1, 3, 16, 16))
    least = net.cost(net.closed_decisions(1)).ratio.item()
    assert 0.25 < least < 0.35
    with pytest.raises(BudgetError, match=f"{least:.4f}"):
        calibrate(net, [torch.randn(2, 3, 16, 16)], 0.25)


@pytest.mark.parametrize(
    "options",
    [
        {"partitions": 1},
        {"partitions": 0},
        {"partitions": 2.0},
        {"groups": 1},
        {"shuffle": "yes"},
        {"convs": "conv1"},
        {"convs": []},
        {"convs": [1]},
        {"form": "both"},
        {"group": 0},
        {"threshold": float("nan")},
        {"target": float("inf")},
        {"weight": -1e-4},
        {"alpha": 0},
        {"sparse": None},
    ],
    ids=str,
)
def test_bad_options_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        ChannelGating(**options)


@torch.no_grad()
def test_the_engine_by_hand():
    """As `test_equations_by_hand`: 3x - 3 > 0, strictly, and the rest, 20x, only there."""
    net, _ = two_channels(ChannelGating(partitions=2, groups=False), (3.0,))
    run = convgate.compile(net, threads=1).run(IMAGE.numpy())
    assert run.decisions["1.activation"].logits.tolist() == [[[[0.0, -6.0], [-1.5, 9.0]]]]
    assert run.decisions["1.activation"].mask.tolist() == [[[[0, 0], [0, 1]]]]
    assert run.outputs[0].tolist() == [[[[3.0, -3.0], [1.5, 92.0]]]]
    assert {name: macs.tolist() for name, macs in run.by_layer.items()} == {
        "0": [8],
        "1": [4 + 1],
        "gates.1.activation": [0],
    }
