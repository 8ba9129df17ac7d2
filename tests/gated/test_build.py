"""Planning and gating models with unusual names, dtypes, forks and calls; each case once went wrong."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convgate.errors import InputError
from convgate.gated import gate, plan
from convgate.methods import DualGating
from convgate.models import create


class Residual(nn.Module):
    """stem, one residual branch whose forward a case writes, classifier."""

    def __init__(self, forward, names=("a", "b")):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)
        self.block = nn.Module()
        for name in names:
            self.block.add_module(name, nn.Conv2d(8, 8, 3, padding=1))
        self._forward = forward

    def forward(self, x):
        return self.head(self._forward(self, F.relu(self.stem(x))).mean((2, 3)))


def plain(model, x):
    a, b = model.block.children()
    return torch.relu(x + b(F.relu(a(x))))


def adds_in_place(model, x):
    return model.block.b(model.block.a(x).relu_()).add_(x)


def adds_by_method(model, x):
    return model.block.b(model.block.a(x).relu()).add(x)


def scales_by_a_constant(model, x):
    return x + model.block.b(F.relu(model.block.a(x))) * torch.tensor(2.0)


def forks_inside(model, x):
    a, b = F.pad(x, (0, 0, 0, 0, 0, 8)).chunk(2, 1)
    return a + model.block.a(b) + model.block.b(b) * 0


def works_on_one_position(model, x):
    y = model.block.b(F.relu(model.block.a(F.adaptive_avg_pool2d(x, 1))))
    return x + F.interpolate(y, x.shape[2:])


def overwrites_the_fork(model, x):
    x = x - 0.5
    y = model.block.b(F.relu(model.block.a(F.relu(x, inplace=True))))
    return x + y


X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def gated(forward, method=None, **options):
    torch.manual_seed(0)
    model = Residual(forward, **options).eval()
    return model, gate(model, method or DualGating(), X)


def check_open_and_counted(model, net):
    with torch.no_grad():
        torch.testing.assert_close(net.replay(X, net.open_decisions(4)), model(X))
    cost = net.cost(net.open_decisions(4))
    assert cost.macs.tolist() == [net.ledger.dense + net.ledger.gate_macs] * 4
    assert torch.equal(cost.macs, torch.stack(list(cost.by_layer.values())).sum(0))
    assert len(cost.by_layer) == len(net.ledger.layers) + len(net.ledger.gates)


@pytest.mark.parametrize("forward", [plain, adds_in_place, adds_by_method, scales_by_a_constant, overwrites_the_fork])
def test_a_branch_is_found_however_it_is_written(forward):
    model, net = gated(forward)
    assert [site.name for site in net.plan.sites] == ["block"]
    check_open_and_counted(model, net)
    net.train()
    output, decisions = net.decide(X)
    (output.sum() + net.cost(decisions).macs.sum()).backward()
    assert all(p.grad is not None for p in net.gate_parameters())


def test_tiles_of_one_position_survive_an_overwritten_fork():
    model, net = gated(overwrites_the_fork, DualGating(tile=1))
    check_open_and_counted(model, net)
    net.train().decide(X)[0].sum().backward()


def test_layers_may_be_called_like_gates():
    check_open_and_counted(*gated(plain, names=("spatial", "channel")))


def test_repeated_calls_have_names_of_their_own():
    def twice(model, x):
        return x + model.block.b(model.block.a(model.block.a(x)))

    model, net = gated(twice, names=("a", "b", "a_1"))
    names = [layer.name for layer in net.ledger.layers]
    assert names.count("block.a") == names.count("block.a#2") == 1
    assert len(set(names)) == len(names)
    check_open_and_counted(model, net)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [(forks_inside, "not a feature map"), (works_on_one_position, "no convolution at a resolution")],
)
def test_what_cannot_be_gated_is_reported(forward, reason):
    planned = plan(Residual(forward), DualGating(channel=False), X)
    reasons = [r.reason for r in planned.skipped] + [r.reason for s in planned.sites for r in s.skipped]
    assert any(reason in r for r in reasons) or any("nothing that a gate would save" in r for r in reasons)
    assert not planned.gates


def test_a_second_name_of_a_layer_keeps_its_keys():
    model = Residual(plain)
    model.alias = model.stem
    net = gate(model, DualGating(), X)
    assert model.state_dict().keys() <= net.state_dict().keys()
    assert net.alias is net.stem


def test_optional_arguments_of_forward_stay_at_their_defaults():
    class Optional(Residual):
        def forward(self, x, mask=None, flatten=True, scale=1.0):
            x = x if mask is None else x * mask
            return super().forward(x * scale) if flatten else x

    model = Optional(plain).eval()
    check_open_and_counted(model, gate(model, DualGating(), X))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gates_take_the_models_dtype_and_only_the_examples_shape_matters(dtype):
    model = Residual(plain).eval().to(dtype)
    net = gate(model, DualGating(), X)
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert net(X.to(dtype)).dtype == dtype
    with pytest.raises(InputError, match="convert one"):
        net(X)


@pytest.mark.parametrize("model_too", [False, True])
def test_what_is_gated_in_inference_mode_can_be_trained(model_too):
    with torch.inference_mode(model_too):
        model = Residual(plain)
    with torch.inference_mode():
        net = gate(model, DualGating(), torch.randn(X.shape))
    net(X).sum().backward()
    assert all(p.grad is not None for p in net.convgate.parameters())


def test_gated_models_are_refused():
    _, net = gated(plain)
    for given in (net, torch.compile(net)):
        with pytest.raises(InputError, match="gated already"):
            gate(given, DualGating(), X)


def test_a_timm_model_without_a_classifier_can_be_planned():
    import timm

    model = timm.create_model("resnet18", features_only=True)
    planned = plan(model, DualGating(), torch.zeros(1, 3, 64, 64))
    assert planned.spec is None
    assert len(planned.sites) == 8


def test_a_spatial_network_trains_on_one_image():
    _, net = gated(plain, DualGating(channel=False))
    net.train()(X[:1])


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet18"])
def test_planning_draws_no_random_numbers(name):
    model = create(name)
    state = torch.get_rng_state()
    plan(model, DualGating(), torch.zeros(1, 3, 64, 64))
    assert torch.equal(torch.get_rng_state(), state)
