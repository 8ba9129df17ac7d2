"""The model stays the user's: names, keys, attributes, and the way back."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from convgate import DualGating, GlobalGater, gate, load, save
from convgate.errors import ConvgateError, InputError, PlanError

OUR_NAMES = ["trunk", "cost", "plan", "ledger", "gates", "decide", "replay", "graphs", "dense", "gate_modules", "given"]


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


class Plain(nn.Module):
    """A model with the kinds of attributes that models have."""

    stride = 1

    def __init__(self, body="body", classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self._modules[body] = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, classes)
        self.register_parameter("unused", None)
        self.body_name, self.num_classes, self.scale = body, classes, 1.0
        self.feature_info = [{"num_chs": 8, "module": body}]
        self.layers = [self.stem, self.head]
        self.shift = torch.tensor(0.5)

    @property
    def width(self):
        return self.head.in_features

    def forward_features(self, x):
        return self._modules[self.body_name](self.stem(x))

    def forward(self, x):
        return self.head(self.forward_features(x).mean((2, 3)) * self.scale + self.shift)


class RootMembers(nn.Module):
    """Parameters and buffers of the root, with names of ours."""

    def __init__(self):
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 3, padding=1), Block(8)
        self._parameters["cost"] = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self._buffers["plan"] = torch.rand(8, 1, 1)

    def forward(self, x):
        return self.block(self.stem(x) * self._parameters["cost"] + self._buffers["plan"]).mean((2, 3))


@pytest.fixture(scope="module")
def x():
    torch.manual_seed(0)
    return torch.randn(2, 3, 12, 12)


def gated(model, x, method=None):
    return gate(model.eval(), method or DualGating(), x)


def assert_open_is_original(net, model, x):
    with torch.no_grad():
        torch.testing.assert_close(net.replay(x, net.open_decisions(len(x))), model(x))


@pytest.mark.parametrize("name", OUR_NAMES)
def test_a_child_may_have_any_name(name, x, tmp_path):
    model = Plain(name)
    net = gated(model, x)
    assert_open_is_original(net, model, x)
    assert_open_is_original(copy.deepcopy(net), model, x)
    y, decisions = net.decide(x)
    assert net.cost(decisions).macs.tolist() == [int(m) for m in net.ledger.cost(decisions).macs]
    save(net, tmp_path / "net")
    assert torch.equal(load(tmp_path / "net", model=Plain(name))(x), y)
    net.dense().load_state_dict(model.state_dict())


def test_root_parameters_and_buffers_may_have_any_name(x):
    model = RootMembers()
    net = gated(model, x)
    assert_open_is_original(net, model, x)
    net(x).sum().backward()
    assert net._parameters["cost"].grad is not None


def test_a_model_with_gates_of_its_own_keeps_them(x, tmp_path):
    net = gated(Plain("gates"), x)
    assert any(name.startswith("convgate.gates.") for name in net.state_dict())
    assert any(name.startswith("gates.") for name in net.dense().state_dict())
    save(net, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors", model=Plain("gates")).eval()
    assert torch.equal(again(x), net.eval()(x))


def test_the_one_name_of_ours_is_refused(x):
    with pytest.raises(PlanError, match="'convgate'"):
        gated(Plain("convgate"), x)


@pytest.mark.parametrize(
    "method", [DualGating(), GlobalGater(gater={"name": "cifar_resnet8", "options": {"width": 2}})]
)
def test_names_of_the_model_are_kept_and_ours_lie_under_one_child(method, x):
    model = Plain()
    net = gated(model, x, method)
    for list_names in (
        lambda m: [k for k, _ in m.named_parameters()],
        lambda m: [k for k, _ in m.named_modules()],
        lambda m: [k for k, _ in m.named_buffers()],
        lambda m: list(m.state_dict()),
    ):
        ours, theirs = list_names(net), list_names(model)
        assert [name for name in ours if name.split(".")[0] != "gates"] == theirs
        assert any(name.startswith("gates.") for name in ours)
    parts = {k.split(".")[1] for k in net.state_dict() if k.startswith("gates.")}
    assert parts == ({"gates"} if isinstance(method, DualGating) else {"gates", "trunk"})


def test_functional_call_replaces_the_models_and_the_gates_weights(x):
    net = gated(Plain(), x)
    y = net(x)
    with torch.no_grad():
        assert torch.equal(functional_call(net, {k: v.clone() for k, v in net.named_parameters()}, (x,)), y)
        zeros = functional_call(net, {"head.weight": torch.zeros(5, 8), "head.bias": torch.ones(5)}, (x,))
    assert torch.equal(zeros, torch.ones(2, 5))


def test_parametrizations_work_on_layers_and_on_the_root(x):
    class Double(nn.Module):
        def forward(self, weight):
            return 2 * weight

    class Gained(RootMembers):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.rand(8))

        def forward(self, x):
            return super().forward(x) * self.gain

    model = Gained()
    net = gated(model, x)
    parametrize.register_parametrization(net.stem, "weight", Double())
    parametrize.register_parametrization(net, "gain", Double())
    with torch.no_grad():
        model.stem.weight.mul_(2)
        model.gain.mul_(2)
    assert_open_is_original(net, model, x)


def test_plain_attributes_can_be_read(x):
    net = gated(Plain(), x)
    assert (net.num_classes, net.stride, net.width, net.body_name) == (5, 1, 8, "body")
    assert net.feature_info == [{"num_chs": 8, "module": "body"}]
    assert net.layers[0] is net.stem
    assert copy.deepcopy(net).layers[1].weight is not net.head.weight
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        net.nothing_of_the_kind  # noqa: B018


def test_methods_that_would_bypass_the_gates_are_refused(x):
    net = gated(Plain(), x)
    with pytest.raises(ConvgateError, match=r"net\.dense\(\)\.forward_features"):
        net.forward_features(x)
    assert not hasattr(net, "forward_features")
    assert net.dense().forward_features(x).shape == (2, 8, 12, 12)


def test_a_plain_attribute_that_is_set_is_honoured(x):
    model = Plain()
    net = gated(model, x)
    model.scale = net.scale = 0.25
    assert net.scale == 0.25
    assert_open_is_original(net, model, x)
    clone = copy.deepcopy(net)
    model.scale = clone.scale = 3.0
    assert_open_is_original(clone, model, x)
    assert net.scale == net.dense().scale == 0.25
    model.scale = 0.25
    assert_open_is_original(net, model, x)


def test_an_attribute_with_which_the_model_cannot_be_read_stays(x):
    net = gated(Plain(), x)
    y = net(x)
    with pytest.raises(ConvgateError):
        net.scale = "much"
    assert net.scale == 1.0
    assert torch.equal(net(x), y)


@pytest.mark.parametrize("name", ["cost", "ledger", "decide", "convgate", "forward_features", "width"])
def test_attributes_that_cannot_be_set(name, x):
    net = gated(Plain(), x)
    with pytest.raises(InputError, match=f"'{name}'"):
        setattr(net, name, 3)


def test_attributes_of_the_users_own_can_be_set(x):
    net = gated(Plain(), x)
    net.epoch, net.note = 3, "mine"
    assert (net.epoch, copy.deepcopy(net).note) == (3, "mine")


def test_a_child_may_be_replaced_where_the_plan_still_fits(x, tmp_path):
    model = Plain()
    net = gated(model, x)
    for classes in (5, 3):
        model.head = net.head = nn.Linear(8, classes)
        assert_open_is_original(net, model, x)
        assert net.ledger.dense == gated(model, x).ledger.dense
        save(net, tmp_path / "net")
        assert torch.equal(load(tmp_path / "net", model=Plain(classes=classes))(x), net(x))
    with pytest.raises(ConvgateError):
        net.stem = nn.Conv2d(4, 8, 3)
    with pytest.raises(ConvgateError):
        net.body = nn.Identity()
    assert_open_is_original(net, model, x)


def test_dense_is_the_ordinary_model_with_the_trained_weights(x):
    model = Plain().train()
    net = gate(model, DualGating(), x)
    with torch.no_grad():
        net.stem.weight.mul_(2)
    net.body[0].eval()
    dense = net.dense()
    assert type(dense) is Plain
    assert list(dense.state_dict()) == list(model.state_dict())
    assert {k: v for k, v in vars(dense).items() if k[0] != "_" and k not in ("layers", "shift")} == {
        k: v for k, v in vars(model).items() if k[0] != "_" and k not in ("layers", "shift")
    }
    assert dense.training
    assert not dense.body[0].training
    assert dense.layers[0] is dense.stem
    net.eval()
    dense.eval()
    assert_open_is_original(net, dense, x)
    with torch.no_grad():
        dense.stem.weight.zero_()
    assert net.stem.weight.any()
    assert gate(dense, DualGating(), x).plan.gates == net.plan.gates
