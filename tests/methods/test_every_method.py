"""What every method of the registry keeps to, on small networks; new methods are tested from the day they are added."""

import copy
import pickle

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import convgate
from convgate import Decision, Decisions, calibrate, gate, load, save
from convgate.errors import BudgetError, LoweringError
from convgate.methods import METHODS, ChannelGating
from convgate.models import create

FORMS = {**{name: method() for name, method in METHODS.items()}, "two norms": ChannelGating(form="paper", shuffle=True)}
MODELS = {"cifar_resnet20": 32, "resnet18": 64, "resnet50": 64, "mobilenet_v2": 64, "densenet121": 64}

pytestmark = pytest.mark.filterwarnings("ignore:.*(barrier|destroy_process_group|device under current context).*")


@pytest.fixture(params=FORMS)
def method(request):
    return FORMS[request.param]


@pytest.fixture
def gated(method, make_small):
    return make_small(method)


def close(actual, expected):
    return bool((actual - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_on_known_models(name, method, randomise, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(2, 3, MODELS[name], MODELS[name])
    model = randomise(create(name), x)
    if not convgate.plan(model, method, x).sites:
        pytest.skip("has nothing that this method gates")
    net = gate(model, method, x)
    opened, closed = net.open_decisions(2), net.closed_decisions(2)
    assert close(net.replay(x, opened), model(x))
    assert net.cost(opened).macs.tolist() == [net.ledger.dense + net.ledger.gate_macs] * 2
    decisions = random_decisions(net, 2)
    macs = net.cost(decisions).macs
    assert macs.dtype == torch.int64
    assert (macs > net.cost(closed).macs).all()
    assert (macs < net.cost(opened).macs).all()
    y = net.replay(x, decisions)
    swapped = torch.tensor([1, 0])
    assert close(net.replay(x[swapped], decisions.select(swapped)), y[swapped])
    y, decisions = net.decide(x)
    assert torch.equal(net.replay(x, decisions), y)


@torch.no_grad()
def test_copies_compute_the_same(gated, tmp_path):
    net, x = gated
    y, decisions = net.decide(x)
    save(net, tmp_path / "net.safetensors")
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), load(tmp_path / "net.safetensors")):
        y2, decisions2 = again.decide(x)
        assert torch.equal(y2, y)
        assert all(torch.equal(decisions2[k].mask, decisions[k].mask) for k in decisions)
        assert again.state_dict().keys() == net.state_dict().keys()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@torch.no_grad()
def test_compiled_equals_eager(gated, backend):
    torch.compiler.reset()
    net, x = gated
    y, decisions = net.decide(x)
    y2, decisions2 = torch.compile(net, backend=backend, fullgraph=True)(x, return_decisions=True)
    torch.testing.assert_close(y2, y)
    assert all(torch.equal(decisions2[k].mask, decisions[k].mask) for k in decisions)
    torch.compiler.reset()


def test_compiled_trains_like_eager(gated):
    torch.compiler.reset()
    net, x = gated
    net.train()
    clone = copy.deepcopy(net)
    net.compile(backend="aot_eager")
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


def test_calibrates(gated):
    net, x = gated
    x = torch.cat([x, torch.randn(13, *x.shape[1:])])
    least = net.cost(net.closed_decisions(1)).ratio.item()
    target = (1 + least) / 2
    calibrate(net, [x], target)
    with torch.no_grad():
        assert net.cost(net.decide(x)[1]).ratio.mean().item() == pytest.approx(target, rel=5e-3)
    with pytest.raises(BudgetError, match=f"{least:.4f}"):
        calibrate(net, [x], least * 0.9)


def test_trains_in_bfloat16_with_logits_in_full_precision(gated):
    net, x = gated
    net.train()
    with torch.autocast("cpu", torch.bfloat16):
        y, decisions = net.decide(x)
    assert all(d.logits.dtype == torch.float32 for d in decisions.values())
    assert all(((d.mask == 0) | (d.mask == 1)).all() for d in decisions.values())
    (y.float().square().mean() + net.cost(decisions).ratio.mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.gate_parameters() if p.grad is not None)


def test_its_terms_are_scalars_that_train_the_gates(method, gated):
    net, x = gated
    y, decisions = net.train().decide(x)
    terms = method.penalty(decisions, net.ledger, 0.5) | method.regularise(net.gate_modules())
    assert terms
    assert all(t.dim() == 0 and torch.isfinite(t) for t in terms.values())
    (y.square().mean() + sum(terms.values())).backward()
    for name, module in net.gate_modules():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters()), name


@torch.no_grad()
def test_the_engine_agrees_or_says_that_it_cannot(gated):
    net, x = gated
    try:
        engine = convgate.compile(net)
    except LoweringError as error:
        assert "kind" in str(error)  # noqa: PT017
        return
    run = engine.run(x.numpy())
    decisions = Decisions(
        (name, Decision(d.kind, torch.from_numpy(run.decisions[name].mask).float()))
        for name, d in net.decide(x)[1].items()
    )
    y = net.replay(x, decisions)
    assert (torch.from_numpy(run.outputs[0]) - y).abs().max() <= 1e-4 * y.abs().max()
    assert run.macs.tolist() == net.cost(decisions).macs.tolist()


# -- DistributedDataParallel -----------------------------------------------------------------------------------------


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
    terms = FORMS[name].regularise(net.gate_modules())
    (y.square().mean() + net.cost(decisions).ratio.mean() + sum(terms.values())).backward()
    return {key: p.grad.clone() for key, p in net.named_parameters()}


def _worker(rank, name, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    net, x = _network(name)
    found = _gradients(name, net, DistributedDataParallel(net), x[rank * 2 : rank * 2 + 2], rank)
    torch.save(found, f"{folder}/gradients{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("name", FORMS)
def test_two_processes_average_gradients(name, tmp_path):
    mp.spawn(_worker, args=(name, str(tmp_path)), nprocs=2)
    parts = []
    for rank in range(2):
        net, x = _network(name)
        parts.append(_gradients(name, net, net, x[rank * 2 : rank * 2 + 2], rank))
    for rank in range(2):
        actual = torch.load(tmp_path / f"gradients{rank}.pt", weights_only=True)
        for key, gradient in actual.items():
            torch.testing.assert_close(gradient, (parts[0][key] + parts[1][key]) / 2, rtol=1e-4, atol=1e-6)
