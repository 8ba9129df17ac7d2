"""What holds for every method on every model that it can gate."""

import copy
import re

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import convgate
from convgate import calibrate, gate, load, save
from convgate.errors import BudgetError, InputError, PlanError
from convgate.methods import METHODS, Method
from convgate.methods import create as create_method
from convgate.models import create

SIZES = {"cifar_resnet20": 32, "resnet18": 64, "resnet50": 64, "mobilenet_v2": 64, "densenet121": 64}

# What all gates closed means, made without convgate: modules whose outputs, or inputs, become zero.
_SHORTCUT = {
    "cifar_resnet20": (r"layer\d\.\d+\.bn2", "outputs"),
    "resnet18": (r"layer\d\.\d+\.bn2", "outputs"),
    "resnet50": (r"layer\d\.\d+\.bn3", "outputs"),
    "mobilenet_v2": (r"features\.(3|5|6|8|9|10|12|13|15|16)\.conv", "outputs"),
}
_DENSE_FEATURES = (r".*denselayer\d+\.conv2", "inputs")
_FEATURES = {
    "cifar_resnet20": (r"layer\d\.\d+\.conv2", "inputs"),
    "resnet18": (r"layer\d\.\d+\.conv2", "inputs"),
    "resnet50": (r"layer\d\.\d+\.conv[23]", "inputs"),
    "mobilenet_v2": (r"features\.(3|5|6|8|9|10|12|13|15|16)\.conv\.2", "inputs"),
    "densenet121": _DENSE_FEATURES,
}
CLOSED = {
    "DualGating": {**_SHORTCUT, "densenet121": _DENSE_FEATURES},
    # All layers of a dense block but the first.
    "GlobalGater": {**_SHORTCUT, "densenet121": (r".*denselayer(?!1\b)\d+\.conv2", "outputs")},
    "BatchShaping": _FEATURES,
    "LayerSkipping": _SHORTCUT,
    "Combined": {**_SHORTCUT, "densenet121": _DENSE_FEATURES},
}
CASES = [(method, model) for method, models in CLOSED.items() for model in models]


class Case:
    """One model gated by one method, gates scattered; `y` is what the original returns for `x`."""

    def __init__(self, method, model, randomise):
        self.method_name, self.model_name = method, model
        torch.manual_seed(0)
        self.x = torch.randn(2, 3, SIZES[model], SIZES[model])
        self.model = randomise(create(model), self.x)
        self.method = METHODS[method]()
        self.net = gate(self.model, self.method, self.x)
        with torch.no_grad():
            for _, module in self.net.gate_modules():
                module.offset.normal_(0, 1)
            self.y = self.model(self.x)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, randomise):
    return Case(*request.param, randomise)


def assert_close(actual, expected, tolerance=1e-5):
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def test_every_method_is_tried():
    assert CLOSED.keys() == METHODS.keys()
    assert set(_FEATURES) == set(SIZES)


def test_where_a_method_does_not_apply_it_says_so():
    with pytest.raises(PlanError, match="finds nothing to gate in DenseNet"):
        gate(create("densenet121"), convgate.LayerSkipping(), torch.zeros(1, 3, 64, 64))


@torch.no_grad()
def test_all_open_is_the_original_network(case):
    assert_close(case.net.replay(case.x, case.net.open_decisions(2)), case.y)
    cost = case.net.cost(case.net.open_decisions(2))
    assert cost.macs.tolist() == [case.net.ledger.dense + case.net.ledger.gate_macs] * 2


@torch.no_grad()
def test_all_closed_is_what_the_method_says(case):
    pattern, side = CLOSED[case.method_name][case.model_name]
    zeroed = [m for name, m in case.model.named_modules() if re.fullmatch(pattern, name)]
    assert zeroed
    if side == "outputs":
        hooks = [m.register_forward_hook(lambda module, args, output: output * 0) for m in zeroed]
    else:
        hooks = [m.register_forward_pre_hook(lambda module, args: (args[0] * 0,)) for m in zeroed]
    expected = case.model(case.x)
    for hook in hooks:
        hook.remove()
    assert (expected - case.y).abs().max() > 1e-3 * case.y.abs().max(), "closing does nothing, so this shows nothing"
    assert_close(case.net.replay(case.x, case.net.closed_decisions(2)), expected)


@torch.no_grad()
@pytest.mark.parametrize("share", [None, 0.0, 0.5, 1.0])
def test_the_engine_computes_the_same_and_executes_what_the_ledger_says(case, share, random_decisions):
    """With the gates' own decisions (None), all closed, half, all open."""
    engine = convgate.compile(case.net, threads=1)
    if share is None:
        expected, decisions = case.net.decide(case.x)
        own = engine.run(case.x.numpy())
        for name, decision in decisions.items():
            np.testing.assert_allclose(own.decisions[name].logits, decision.logits.numpy(), rtol=1e-3, atol=1e-3)
    else:
        decisions = random_decisions(case.net, 2, share)
        expected = case.net.replay(case.x, decisions)
    run = engine.run(case.x.numpy(), given={name: d.mask.numpy() for name, d in decisions.items()})
    assert_close(torch.from_numpy(run.outputs[0]), expected, 1e-4)
    cost = case.net.cost(decisions)
    assert {name: macs.tolist() for name, macs in run.by_layer.items()} == {
        name: macs.tolist() for name, macs in cost.by_layer.items()
    }


@torch.no_grad()
def test_saved_and_loaded(case, tmp_path):
    save(case.net, tmp_path / "net")
    again = load(tmp_path / "net")
    (y, d), (y2, d2) = case.net.decide(case.x), again.decide(case.x)
    assert torch.equal(y, y2)
    assert all(torch.equal(d[name].mask, d2[name].mask) for name in d)
    assert again.plan.method == case.net.plan.method
    assert str(again.plan) == str(case.net.plan)


@torch.no_grad()
def test_calibrated_to_the_middle_of_what_it_can_reach(case):
    net = copy.deepcopy(case.net)
    least, most = (float(net.cost(d(1)).ratio) for d in (net.closed_decisions, net.open_decisions))
    target = (least + min(most, 1.0)) / 2
    if least >= 1:
        assert case.method_name == "GlobalGater", "a gater as large as these backbones saves nothing"
        with pytest.raises(BudgetError, match=f"{least:.4f}"):
            calibrate(net, [case.x], 1.0)
        return
    # Two images and few units: what is near enough depends on the largest unit.
    calibrate(net, [case.x], target, tolerance=0.06)
    reached = float(net.cost(net.decide(case.x)[1]).ratio.mean())
    assert reached == pytest.approx(target, rel=0.061)


# -- on a small network -----------------------------------------------------------------------------------------------


@pytest.fixture(params=METHODS)
def small_case(request, make_small):
    method = METHODS[request.param]()
    net, x = make_small(method)
    return method, net, x


def test_describes_itself_and_is_made_again(small_case):
    method, _, _ = small_case
    assert isinstance(method, Method)
    description = method.describe()
    again = create_method(description["name"], description["options"])
    assert again == method
    assert again.describe() == description
    with pytest.raises(AttributeError):
        method.anything = 0.1
    assert copy.deepcopy(method) == method


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.5, 0.99])
def test_training_reaches_every_gate(small_case, progress):
    method, net, x = small_case
    net.train()
    method.schedule(net, progress)
    torch.manual_seed(0)
    y, decisions = net.decide(x)
    terms = method.penalty(decisions, net.ledger, progress)
    assert all(t.dim() == 0 and torch.isfinite(t) for t in terms.values())
    cost = net.cost(decisions)
    assert torch.isfinite(cost.macs).all()
    assert all(((d.mask >= 0) & (d.mask <= 1)).all() for d in decisions.values())
    (y.square().mean() + sum(terms.values())).backward()
    for name, parameter in net.named_parameters():
        if name.startswith("gates."):
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_training_with_one_image_is_refused(small_case):
    _, net, x = small_case
    with pytest.raises(InputError, match="at least 2 images"):
        net.train()(x[:1])


def test_evaluation_is_deterministic_and_binary(small_case):
    _, net, x = small_case
    with torch.no_grad():
        (y, d), (y2, _) = net.decide(x), net.decide(x)
    assert torch.equal(y, y2)
    assert all(set(m.mask.unique().tolist()) <= {0.0, 1.0} for m in d.values())


@pytest.mark.parametrize("training", [False, True])
def test_compiled_whole(small_case, training):
    """One graph without breaks, in both modes; in evaluation the same values."""
    _, net, x = small_case
    net.train(training)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    with torch.no_grad():
        y, decisions = compiled(x, return_decisions=True)
        if not training:
            expected, wanted = net.decide(x)
            torch.testing.assert_close(y, expected)
            assert all(torch.equal(decisions[name].mask, wanted[name].mask) for name in wanted)


@pytest.mark.filterwarnings("ignore:.*(barrier|destroy_process_group|device under current context).*")
def test_distributed(small_case, tmp_path):
    method, net, x = small_case
    net.train()
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.momentum = 0.0

    def gradients(module):
        torch.manual_seed(0)
        y, decisions = module(x, return_decisions=True)
        (y.square().mean() + sum(method.penalty(decisions, net.ledger, 0.1).values())).backward()
        found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
        net.zero_grad()
        return found

    expected = gradients(net)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        actual = gradients(DistributedDataParallel(net))
    finally:
        dist.destroy_process_group()
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name])
