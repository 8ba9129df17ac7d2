"""What holds for every method of the registry, on every model that it can gate; new ones are tested from day one."""

import copy
import pickle
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import convgate
from convgate import calibrate, gate, load, save
from convgate.errors import BudgetError, InputError, PlanError
from convgate.methods import METHODS, ChannelGating, Method
from convgate.methods import create as create_method
from convgate.models import create

DENSENET = "tests.small_backbones:densenet"
SIZES = {"cifar_resnet20": 32, "resnet18": 64, "timm/resnet26": 64, "mobilenet_v2": 64, DENSENET: 16}

pytestmark = pytest.mark.filterwarnings("ignore:.*(barrier|destroy_process_group|device under current context).*")


# -- what all gates closed means, and what then costs nothing, said without convgate ----------------------------------


@dataclass(frozen=True)
class Zeros:
    """The modules that match `pattern` have outputs (or inputs) of zero; the layers that match `idle` cost nothing."""

    pattern: str
    side: str
    idle: str

    def close(self, model):
        zeroed = [m for name, m in model.named_modules() if re.fullmatch(self.pattern, name)]
        assert zeroed
        for module in zeroed:
            if self.side == "outputs":
                module.register_forward_hook(lambda module, args, output: output * 0)
            else:
                module.register_forward_pre_hook(lambda module, args: (args[0] * 0,))

    def macs(self, name, model, dense):
        return 0 if re.fullmatch(self.idle, name) else dense


class Quarters:
    """Every convolution that can be cut into four sums up one block of its inputs for each block of its outputs.

    All but the first and grouped ones, if four divides their inputs and outputs.
    """

    def close(self, model):
        for module in model.modules():
            if self._is_cut(module):
                outputs, inputs = (size // 4 for size in module.weight.shape[:2])
                blocks = torch.block_diag(*[torch.ones(outputs, inputs)] * 4)
                module.weight.data *= blocks[:, :, None, None]

    def macs(self, name, model, dense):
        module = model.get_submodule(name)
        return dense // 4 if self._is_cut(module) else dense

    def _is_cut(self, module):
        if not isinstance(module, nn.Conv2d) or module.groups > 1:
            return False
        return module.in_channels > 3 and module.in_channels % 4 == module.out_channels % 4 == 0


_MOBILE = r"features\.(3|5|6|8|9|10|12|13|15|16)\.conv"
_BRANCHES = {
    "cifar_resnet20": Zeros(r"layer\d\.\d+\.bn2", "outputs", r"layer\d\.\d+\.conv[12]"),
    "resnet18": Zeros(r"layer\d\.\d+\.bn2", "outputs", r"layer\d\.\d+\.conv[12]"),
    "timm/resnet26": Zeros(r"layer\d\.\d+\.bn3", "outputs", r"layer\d\.\d+\.conv[123]"),
    "mobilenet_v2": Zeros(_MOBILE, "outputs", rf"{_MOBILE}\..*"),
}
_LAST = {
    "cifar_resnet20": Zeros(r"layer\d\.\d+\.bn2", "outputs", r"layer\d\.\d+\.conv2"),
    "resnet18": Zeros(r"layer\d\.\d+\.bn2", "outputs", r"layer\d\.\d+\.conv2"),
    "timm/resnet26": Zeros(r"layer\d\.\d+\.bn3", "outputs", r"layer\d\.\d+\.conv3"),
    "mobilenet_v2": Zeros(_MOBILE, "outputs", rf"{_MOBILE}\.2"),
}
_DENSE = {DENSENET: Zeros(r"block\d\.\d+\.conv2", "inputs", r"block\d\.\d+\.conv[12]")}
_FEATURES = {
    "cifar_resnet20": Zeros(r"layer\d\.\d+\.conv2", "inputs", r"layer\d\.\d+\.conv[12]"),
    "resnet18": Zeros(r"layer\d\.\d+\.conv2", "inputs", r"layer\d\.\d+\.conv[12]"),
    "timm/resnet26": Zeros(r"layer\d\.\d+\.conv[23]", "inputs", r"layer\d\.\d+\.conv[123]"),
    "mobilenet_v2": Zeros(rf"{_MOBILE}\.2", "inputs", rf"{_MOBILE}\..*"),
}
# All layers of a dense block but the first.
_LATER = Zeros(r"block\d\.(?!0\b)\d+\.conv2", "outputs", r"block\d\.(?!0\b)\d+\.conv2")
CLOSED = {
    "DualGating": _BRANCHES | _DENSE,
    "ChannelGating": dict.fromkeys(SIZES, Quarters()),
    "GlobalGater": _LAST | {DENSENET: _LATER},
    "BatchShaping": _FEATURES | _DENSE,
    "LayerSkipping": _BRANCHES,
    "Combined": _BRANCHES | _DENSE,
}
CASES = [(method, model) for method, models in CLOSED.items() for model in models]


class Case:
    """One model gated by one method, gates scattered; `y` is what the original returns for `x`."""

    def __init__(self, method, model, randomise):
        self.closed = CLOSED[method][model]
        torch.manual_seed(0)
        self.x = torch.randn(2, 3, SIZES[model], SIZES[model])
        self.model = randomise(create(model), self.x)
        self.net = gate(self.model, METHODS[method](), self.x)
        with torch.no_grad():
            for _, module in self.net.gate_modules():
                module.offset.normal_(0, 1)
            self.y = self.model(self.x)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, randomise):
    return Case(*request.param, randomise)


def is_close(actual, expected, tolerance=1e-5):
    return bool((actual - expected).abs().max() <= tolerance * expected.abs().max())


def as_lists(by_layer):
    return {name: macs.tolist() for name, macs in by_layer.items()}


def test_every_method_is_tried():
    assert CLOSED.keys() == METHODS.keys()


@pytest.mark.parametrize("method", METHODS)
def test_where_a_method_does_not_apply_it_says_so(method):
    for model in SIZES.keys() - CLOSED[method].keys():
        with pytest.raises(PlanError, match="finds nothing to gate"):
            gate(create(model), METHODS[method](), torch.zeros(1, 3, SIZES[model], SIZES[model]))


@torch.no_grad()
def test_all_open_is_the_original_network(case):
    opened = case.net.open_decisions(2)
    assert is_close(case.net.replay(case.x, opened), case.y)
    assert case.net.cost(opened).macs.tolist() == [case.net.ledger.dense + case.net.ledger.gate_macs] * 2


@torch.no_grad()
def test_all_closed_is_what_the_method_says(case):
    model = copy.deepcopy(case.model)
    case.closed.close(model)
    expected = model(case.x)
    assert not is_close(expected, case.y, 1e-3), "closing does nothing, so this shows nothing"
    closed = case.net.closed_decisions(2)
    assert is_close(case.net.replay(case.x, closed), expected)
    gates = {f"gates.{name}": [macs] * 2 for name, macs in case.net.ledger.gates.items()}
    layers = {layer.name: case.closed.macs(layer.name, model, layer.macs) for layer in case.net.ledger.layers}
    assert as_lists(case.net.cost(closed).by_layer) == {name: [macs] * 2 for name, macs in layers.items()} | gates


@torch.no_grad()
def test_a_sample_depends_on_its_own_decisions_alone(case, random_decisions):
    y, decisions = case.net.decide(case.x)
    assert torch.equal(case.net.replay(case.x, decisions), y)
    decisions, swapped = random_decisions(case.net, 2), torch.tensor([1, 0])
    y, cost = case.net.replay(case.x, decisions), case.net.cost(decisions).macs
    assert is_close(case.net.replay(case.x[swapped], decisions.select(swapped)), y[swapped])
    assert case.net.cost(decisions.select(swapped)).macs.tolist() == cost[swapped].tolist()
    assert cost.dtype == torch.int64


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
    assert is_close(torch.from_numpy(run.outputs[0]), expected, 1e-4)
    assert as_lists(run.by_layer) == as_lists(case.net.cost(decisions).by_layer)


@torch.no_grad()
def test_saved_and_loaded(case, tmp_path):
    save(case.net, tmp_path / "net")
    by_name = case.net.plan.spec is not None
    again = load(tmp_path / "net", model=None if by_name else case.model)
    (y, d), (y2, d2) = case.net.decide(case.x), again.decide(case.x)
    assert torch.equal(y, y2)
    assert all(torch.equal(d[name].mask, d2[name].mask) for name in d)
    assert again.plan.method == case.net.plan.method
    assert str(again.plan) == str(case.net.plan)


def test_calibrated_to_the_middle_of_what_it_can_reach(case):
    check_calibration(copy.deepcopy(case.net), case.x)


def largest_step(net):
    """The share of the dense MACs that a unit of the most expensive gate spends, with all others open."""
    opened, closed = net.open_decisions(1), net.closed_decisions(1)
    most, steps = net.cost(opened).ratio, []
    for spec in net.plan.gates:
        without = convgate.Decisions({**opened, spec.name: closed[spec.name]})
        steps.append(float(most - net.cost(without).ratio) / spec.units)
    return max(steps)


@torch.no_grad()
def check_calibration(net, x):
    """To half a percent, or as near as two units for one image are (a unit that closes may move one behind it)."""
    least = float(net.cost(net.closed_decisions(1)).ratio)
    if least >= 1:
        # A shared network that costs more than it could save.
        assert net.convgate.trunk is not None
        with pytest.raises(BudgetError, match=f"{least:.4f}"):
            calibrate(net, [x], 1.0)
        return
    target = (least + 1) / 2
    tolerance = max(5e-3, 2 * largest_step(net) / len(x) / target)
    calibrate(net, [x], target, tolerance=tolerance)
    assert float(net.cost(net.decide(x)[1]).ratio.mean()) == pytest.approx(target, rel=tolerance)
    with pytest.raises(BudgetError, match=f"{least:.4f}"):
        calibrate(net, [x], least * 0.9)


# -- on a small network -----------------------------------------------------------------------------------------------

FORMS = {**{name: method() for name, method in METHODS.items()}, "two norms": ChannelGating(form="paper", shuffle=True)}


@pytest.fixture(params=FORMS)
def method(request):
    return FORMS[request.param]


@pytest.fixture
def gated(method, make_small):
    return make_small(method)


def test_describes_itself_and_is_made_again(method):
    assert isinstance(method, Method)
    description = method.describe()
    again = create_method(description["name"], description["options"])
    assert again == method
    assert again.describe() == description
    with pytest.raises(AttributeError):
        method.anything = 0.1
    assert copy.deepcopy(method) == method


@torch.no_grad()
def test_copies_compute_the_same(gated, tmp_path):
    net, x = gated
    y, decisions = net.decide(x)
    save(net, tmp_path / "net.safetensors")
    for again in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net)), load(tmp_path / "net.safetensors")):
        y2, decisions2 = again.decide(x)
        assert torch.equal(y2, y)
        assert all(torch.equal(decisions2[k].mask, decisions[k].mask) for k in decisions)
        assert again.state_dict().keys() == net.state_dict().keys()
    assert all(set(d.mask.unique().tolist()) <= {0.0, 1.0} for d in decisions.values())


def test_calibrates(gated):
    net, x = gated
    check_calibration(net, torch.cat([x, torch.randn(13, *x.shape[1:])]))


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.5, 0.99])
def test_training_reaches_every_gate(method, gated, progress):
    net, x = gated
    net.train()
    method.schedule(net, progress)
    torch.manual_seed(0)
    y, decisions = net.decide(x)
    terms = method.terms(decisions, net.convgate, net.ledger, progress)
    assert terms
    assert all(t.dim() == 0 and torch.isfinite(t) for t in terms.values())
    assert torch.isfinite(net.cost(decisions).macs).all()
    assert all(((d.mask >= 0) & (d.mask <= 1)).all() for d in decisions.values())
    (y.square().mean() + sum(terms.values())).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.gate_parameters())
    for name, module in net.gate_modules():
        assert any(p.grad.abs().sum() > 0 for p in module.parameters()), name


def test_one_image_trains_or_is_refused(gated):
    net, x = gated
    try:
        net.train()(x[:1])
    except InputError as error:
        assert "at least 2 images" in str(error)  # noqa: PT017


def test_trains_in_bfloat16_with_logits_in_full_precision(gated):
    net, x = gated
    net.train()
    with torch.autocast("cpu", torch.bfloat16):
        y, decisions = net.decide(x)
    assert all(d.logits.dtype == torch.float32 for d in decisions.values())
    (y.float().square().mean() + net.cost(decisions).ratio.mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.gate_parameters() if p.grad is not None)


class OneBlock(nn.Module):
    """A network of one residual block, which every method gates: torch.compile takes a second for each more."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
        self.conv1, self.conv2 = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = (nn.BatchNorm2d(8) for _ in range(2))

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = torch.relu(self.bn1(self.conv1(x)))
        return self.head(torch.relu(x + self.bn2(self.conv2(y))).mean((2, 3)))


@pytest.fixture
def short(method, randomise, scatter):
    torch.manual_seed(0)
    images = torch.randn(3, 3, 16, 16)
    return scatter(gate(randomise(OneBlock(), images), method, images)), images


@torch.no_grad()
def test_compiled_equals_eager(short):
    torch.compiler.reset()
    net, x = short
    y, decisions = net.decide(x)
    y2, decisions2 = torch.compile(net, backend="aot_eager", fullgraph=True)(x, return_decisions=True)
    torch.testing.assert_close(y2, y)
    assert all(torch.equal(decisions2[k].mask, decisions[k].mask) for k in decisions)
    torch.compiler.reset()


def test_compiled_trains_like_eager(short):
    torch.compiler.reset()
    net, x = short
    net.train()
    clone = copy.deepcopy(net)
    net.compile(backend="aot_eager", fullgraph=True)
    for n in (net, clone):
        n(x, given=n.open_decisions(3)).square().mean().backward()
    for (name, p), q in zip(net.named_parameters(), clone.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)
    output, decisions = net.decide(x)
    (output.mean() + net.cost(decisions).ratio.mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.gate_parameters())
    torch.compiler.reset()


# -- DistributedDataParallel ------------------------------------------------------------------------------------------


def _network(name):
    torch.manual_seed(0)
    net = gate(create("cifar_resnet8", width=4), FORMS[name], torch.zeros(1, 3, 16, 16)).train()
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()  # each process would see other statistics
    return net, torch.randn(4, 3, 16, 16)


def _gradients(name, net, module, x, rank):
    torch.manual_seed(rank)
    y, decisions = module(x, return_decisions=True)
    terms = FORMS[name].terms(decisions, net.convgate, net.ledger, 0.1)
    (y.square().mean() + net.cost(decisions).ratio.mean() + sum(terms.values())).backward()
    return {key: p.grad.clone() for key, p in net.named_parameters()}


def _worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {}
    for name in FORMS:
        net, x = _network(name)
        found[name] = _gradients(name, net, DistributedDataParallel(net), x[rank * 2 : rank * 2 + 2], rank)
    torch.save(found, f"{folder}/gradients{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shared_gradients(tmp_path_factory):
    """What each of two processes has for gradients, for each method."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(_worker, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"gradients{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", FORMS)
def test_two_processes_average_gradients(name, shared_gradients):
    parts = []
    for rank in range(2):
        net, x = _network(name)
        parts.append(_gradients(name, net, net, x[rank * 2 : rank * 2 + 2], rank))
    for actual in shared_gradients:
        for key, gradient in actual[name].items():
            torch.testing.assert_close(gradient, (parts[0][key] + parts[1][key]) / 2, rtol=1e-4, atol=1e-6)
