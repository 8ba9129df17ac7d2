"""What holds for every model that convgate promises to gate.

One batch size throughout: PyTorch prepares its convolutions anew for every shape, and that is what takes the time here.
"""

import re
from functools import partial

import pytest
import torch
from tests.small_backbones import SMALL, ZEROED
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import GoogLeNetOutputs

from convgate import DualGating, gate, plan
from convgate.models import create

# How each model's shortcut path is made without convgate: the modules whose outputs become zero. Residual networks: the
# last layer of what is added to the shortcut; the others: the features that only convolutions read, the stem's first
# convolution aside.
_RESIDUAL = {
    "resnet18": r"layer\d\.\d+\.bn2",
    "resnet50": r"layer\d\.\d+\.bn3",
    "resnext50_32x4d": r"layer\d\.\d+\.bn3",
    "mobilenet_v2": r"features\.(3|5|6|8|9|10|12|13|15|16)\.conv",
    "mobilenet_v3_large": r"features\.(1|3|5|6|8|9|10|12|14|15)\.block",
    "efficientnet_b0": r"features\.(2\.1|3\.1|4\.[12]|5\.[12]|6\.[123])\.block",
    "regnet_y_400mf": r"trunk_output\.block\d\.block\d-\d\.f",
    "timm/resnet18d": r"layer\d\.\d+\.bn2",
    "timm/resnetv2_50": r"stages\.\d\.blocks\.\d+\.conv3",
    "timm/mobilenetv3_large_100": r"blocks\.(0\.0\.bn2|(1\.1|2\.[12]|3\.[123]|4\.1|5\.[12])\.bn3)",
    "timm/res2net50d": r"layer\d\.\d+\.bn3",
    "timm/dla34": r"level[2-5]\.(tree\d\.)*tree\d\.bn2",
    "cifar_resnet20": r"layer\d\.\d+\.bn2",
    **ZEROED,
}
_FEATURES = ["densenet121", "vgg16_bn", "googlenet", "shufflenet_v2_x0_5", "timm/inception_v4"]
_ENDS = {"densenet121": r".*denselayer\d+\.relu2", "shufflenet_v2_x0_5": r".*(branch1\.1|branch2\.4)"}
"""Where the intermediate features of a model end."""
MODELS = [*_RESIDUAL, *_FEATURES]
_SIZES = {"timm/inception_v4": 107, "cifar_resnet20": 32, **dict.fromkeys(SMALL, 32)}

pytestmark = pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")


class Case:
    """One model, gated; `y` is what the original returns for `x`."""

    def __init__(self, name, randomise):
        self.name = name
        size = _SIZES.get(name, 64)
        torch.manual_seed(0)
        self.x = torch.randn(2, 3, size, size)
        self.model = randomise(SMALL.get(name, partial(create, name))(), self.x)
        self.before = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.net = gate(self.model, DualGating(), self.x)
        with torch.no_grad():
            self.y = self.model(self.x)


@pytest.fixture(scope="module", params=MODELS)
def case(request, randomise):
    return Case(request.param, randomise)


def assert_close(actual, expected):
    """To 1e-5 of the largest value."""
    assert torch.isfinite(expected).all()
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_plan_prints_every_site_and_what_is_not_counted(case):
    text = str(case.net.plan)
    first_words = {line.split()[0] for line in text.splitlines() if line.split()}
    assert {site.name for site in case.net.plan.sites} <= first_words
    assert {skipped.name for skipped in case.net.plan.skipped} <= first_words
    assert "not counted: " in text


def test_every_convolution_is_accounted_for(case):
    convs = {name for name, m in case.model.named_modules() if isinstance(m, nn.Conv2d)}
    convs -= {name for name in convs if name.startswith("aux")}
    planned = case.net.plan
    named = {planned.layer_names[conv] for site in planned.sites for conv in site.convs}
    named |= {r.name for site in planned.sites for r in site.skipped} | {r.name for r in planned.skipped}
    assert convs == convs & named
    assert all(r.reason for r in planned.skipped)


def test_gating_leaves_the_model_unchanged(case):
    assert all(torch.equal(value, case.before[key]) for key, value in case.model.state_dict().items())
    assert not any(m.training for m in case.model.modules())
    theirs = {p.data_ptr() for p in case.model.parameters()}
    assert not theirs & {p.data_ptr() for p in case.net.parameters()}


def test_plan_follows_and_restores_training_mode(case):
    case.model.train()
    next(m for m in case.model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    modes = [m.training for m in case.model.modules()]
    assert str(plan(case.model, DualGating(), case.x)) == str(case.net.plan)
    assert modes == [m.training for m in case.model.modules()]
    assert all(torch.equal(value, case.before[key]) for key, value in case.model.state_dict().items())
    case.model.eval()


def test_state_dict_keeps_keys_and_values(case):
    state = case.net.state_dict()
    assert all(torch.equal(state[key], value) for key, value in case.before.items())
    extra = state.keys() - case.before.keys()
    assert extra
    assert all(key.startswith("gates.") for key in extra)


@torch.no_grad()
def test_all_open_is_the_original_network(case):
    assert case.y.std(0).max() > 0
    assert_close(case.net.replay(case.x, case.net.open_decisions(2)), case.y)


@torch.no_grad()
def test_all_closed_is_the_shortcut_path(case):
    y = case.net.replay(case.x, case.net.closed_decisions(2))
    expected = shortcut_path(case)
    assert (expected - case.y).abs().max() > 1e-3 * case.y.abs().max(), "the branches do nothing, so this shows nothing"
    assert_close(y, expected)


def shortcut_path(case):
    """The original model's output, with what `_RESIDUAL` names, or all intermediate features, set to zero."""
    if case.name in _RESIDUAL:
        zeroed = [m for name, m in case.model.named_modules() if re.fullmatch(_RESIDUAL[case.name], name)]
        assert len(zeroed) == len(case.net.plan.sites)
        hooks = [m.register_forward_hook(lambda module, args, output: output * 0) for m in zeroed]
    elif case.name in _ENDS:
        zeroed = [m for name, m in case.model.named_modules() if re.fullmatch(_ENDS[case.name], name)]
        hooks = [m.register_forward_hook(lambda module, args, output: output * 0) for m in zeroed]
    elif case.name == "vgg16_bn":
        zeroed = [m for m in case.model.features if isinstance(m, nn.ReLU)][1:-1]
        # In place, so the ReLU's own output is not at risk: the hook returns a new tensor.
        hooks = [m.register_forward_hook(lambda module, args, output: output * 0) for m in zeroed]
    else:
        units = _units_read_by_units_only(case.model)
        hooks = [m.register_forward_hook(lambda module, args, output: output * 0) for m in units]
    assert hooks
    try:
        return case.model(case.x)
    finally:
        for hook in hooks:
            hook.remove()


class _UnitTracer(fx.Tracer):
    def is_leaf_module(self, m, name):
        return type(m).__name__ in ("BasicConv2d", "ConvNormAct") or super().is_leaf_module(m, name)


def _units_read_by_units_only(model):
    """conv-norm-activation modules whose outputs reach nothing but others of them, directly or through pooling."""
    graph = _UnitTracer().trace(model)
    modules = dict(model.named_modules())

    def is_a(node, *kinds):
        return node.op == "call_module" and type(modules[node.target]).__name__ in kinds

    def read_by_units(node):
        return all(
            is_a(user, "BasicConv2d", "ConvNormAct")
            or (is_a(user, "MaxPool2d", "AvgPool2d", "AvgPool2dSame") and read_by_units(user))
            for user in node.users
        )

    return [
        modules[node.target]
        for node in graph.nodes
        if is_a(node, "BasicConv2d", "ConvNormAct")
        and node.all_input_nodes[0].op != "placeholder"
        and node.users
        and read_by_units(node)
    ]


@torch.no_grad()
def test_dense_macs_agree_with_pytorchs_flop_counter(case):
    with FlopCounterMode(display=False) as counter:
        case.model(case.x)
    assert 2 * case.net.ledger.dense == counter.get_total_flops() / 2


@torch.no_grad()
def test_cost_of_open_gates_is_dense_plus_gates(case):
    cost = case.net.cost(case.net.open_decisions(2))
    heads = 0
    counts = {}
    for name, module in case.net.gate_modules():
        hooks = [
            m.register_forward_hook(
                lambda m, args, y, name=name: counts.__setitem__(
                    (name, m), m.weight.numel() * (y[0, 0].numel() if isinstance(m, nn.Conv2d) else 1)
                )
            )
            for m in module.modules()
            if isinstance(m, nn.Conv2d | nn.Linear)
        ]
        heads += len(hooks)
    case.net(case.x)
    assert len(counts) == heads
    assert cost.macs.dtype == torch.int64
    assert cost.macs.tolist() == [case.net.ledger.dense + sum(counts.values())] * 2
    assert cost.macs.tolist() == torch.stack(list(cost.by_layer.values())).sum(0).tolist()


@torch.no_grad()
def test_random_decisions_replay_exactly_and_cost_integers(case, random_decisions):
    decisions = random_decisions(case.net, 2)
    cost = case.net.cost(decisions)
    assert cost.macs.dtype == torch.int64
    least, most = (int(case.net.cost(d(1)).macs) for d in (case.net.closed_decisions, case.net.open_decisions))
    assert all(least < macs < most for macs in cost.macs.tolist())
    alone = [case.net.cost(decisions.select(slice(i, i + 1))).macs.item() for i in range(2)]
    assert alone == cost.macs.tolist()
    y = case.net.replay(case.x, decisions)
    assert torch.isfinite(y).all()
    # Each sample has its own masks.
    swapped = torch.tensor([1, 0])
    assert_close(case.net.replay(case.x[swapped], decisions.select(swapped)), y[swapped])


@torch.no_grad()
def test_own_decisions_replay_exactly(case):
    y, decisions = case.net.decide(case.x)
    assert list(decisions) == [spec.name for spec in case.net.plan.gates]
    assert torch.equal(case.net(case.x), y)
    assert torch.equal(case.net.replay(case.x, decisions), y)


def test_every_gate_learns_in_training(case):
    """Gradients of the penalty and of the output reach every gate parameter; the output keeps the model's type."""
    net = case.net.train().requires_grad_(False)
    torch.manual_seed(1)
    for parameter in net.gate_parameters():
        parameter.requires_grad_(True)
    with torch.no_grad():
        # Small weights: the gradient of a saturated gate is 0 in float32, which would show nothing.
        for parameter in net.gate_parameters():
            if parameter.dim() > 1:
                parameter.mul_(0.05)
    output, decisions = net.decide(case.x)
    if case.name == "googlenet":
        assert isinstance(output, GoogLeNetOutputs)
        assert output.aux_logits1.shape == (2, 1000)
        output = output.logits + output.aux_logits1 + output.aux_logits2
    assert output.requires_grad
    penalty = sum(DualGating(budget=0.1).penalty(decisions, net.ledger, 0.0).values())
    (penalty + output.square().mean()).backward()
    for name, module in net.gate_modules():
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{name} {key}"
            assert torch.isfinite(parameter.grad).all(), f"{name} {key}"
        last = list(module.parameters())[-1]
        assert last.grad.abs().sum() > 0, name
    net.zero_grad()
    net.eval()


def test_googlenet_returns_its_auxiliary_heads_in_training_only():
    torch.manual_seed(0)
    model = create("googlenet")
    net = gate(model, DualGating(), torch.zeros(1, 3, 64, 64))
    assert net.training
    x = torch.randn(2, 3, 64, 64)
    assert isinstance(net(x), GoogLeNetOutputs)
    assert isinstance(net.eval()(x), torch.Tensor)
    model.train()
    for module in (model, net.train()):
        for m in module.modules():
            if isinstance(m, nn.Dropout):
                m.eval()
    with torch.no_grad():
        theirs, ours = model(x), net.replay(x, net.open_decisions(2))
    for name in ("logits", "aux_logits1", "aux_logits2"):
        assert_close(getattr(ours, name), getattr(theirs, name))
