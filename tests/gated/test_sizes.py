"""A gated network takes every size that its model takes, and counts the MACs of that size."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from convgate import ChannelGating, Decisions, DualGating, calibrate, gate
from convgate.errors import InputError
from convgate.gating import Tiles
from convgate.methods import METHODS, GlobalGater
from convgate.models import create

EXAMPLE = (16, 16)
SIZES = [(16, 16), (24, 24), (20, 28), (17, 33)]
MADE = {name: method() for name, method in METHODS.items()}
MADE["GlobalGater"] = GlobalGater(gater={"name": "cifar_resnet8", "options": {"width": 2}}, bottleneck=4)


@pytest.fixture(scope="module", params=MADE)
def both(request, randomise, scatter):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *EXAMPLE)
    model = randomise(create("cifar_resnet8", width=4), x)
    return scatter(gate(model, MADE[request.param], x)), model


def images(size, n=2):
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(sum(size)))


@pytest.mark.parametrize("size", SIZES, ids=str)
@torch.no_grad()
def test_every_size(size, both):
    net, model = both
    x = images(size)
    y, decisions = net.decide(x)
    assert decisions.size == size
    assert torch.equal(net(x), y)
    assert torch.equal(net.replay(x, decisions), y)
    opened, ledger = net.open_decisions(2, size), net.ledger_at(size)
    torch.testing.assert_close(net.replay(x, opened), model(x), rtol=1e-4, atol=1e-5)
    assert net.cost(opened).macs.tolist() == [ledger.dense + ledger.gate_macs] * 2
    # The ledger of a network that was gated for this size.
    fresh = gate(model, MADE[net.plan.method["name"]], x)
    assert ledger.dense == fresh.ledger.dense
    assert [layer.macs for layer in ledger.layers] == [layer.macs for layer in fresh.ledger.layers]
    for changed in (decisions.detach(), decisions.without_logits(), decisions.select(slice(0, 1)), decisions.to("cpu")):
        assert torch.equal(net.cost(changed).macs, net.cost(decisions).macs[: changed.batch_size])
    assert Decisions.concatenate([decisions, decisions]).size == size


@torch.no_grad()
def test_training_at_another_size(both):
    net, _ = both
    net = copy.deepcopy(net).train()
    with torch.enable_grad():
        y, decisions = net.decide(images((24, 20), 4))
        (y.square().mean() + net.cost(decisions).ratio.mean()).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


def test_masks_follow_the_size_and_parameters_do_not(small):
    net, _ = small
    shapes = {k: v.shape for k, v in net.state_dict().items()}
    before = {g.name: g.shape for g in net.plan.gates}
    after = {g.name: g.shape for g in net.plan_at((24, 32)).gates}
    for gate_ in net.plan.gates:
        grows = isinstance(gate_.kind, Tiles)
        rows, columns = before[gate_.name][1:]
        assert after[gate_.name][1:] == ((rows * 3 // 2, columns * 2) if grows else (rows, columns))
    assert {k: v.shape for k, v in net.state_dict().items()} == shapes


def test_sizes_that_the_model_does_not_take():
    convs = (nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    model = nn.Sequential(*convs, nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4 * 64, 5))
    net = gate(model.eval(), DualGating(where="everywhere"), torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"does not take images of 9x9 pixels.*reduction dim"):
        net(torch.zeros(1, 3, 9, 9))
    with pytest.raises(InputError, match="9x9"):
        net.ledger_at((9, 9))
    net(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("size", [3, (3,), (0, 4), "ab", (2.5, 3)])
def test_what_is_not_a_size(small, size):
    for call in (lambda n: n.ledger_at(size), lambda n: n.open_decisions(1, size)):
        with pytest.raises(InputError, match="size"):
            call(small[0])


def test_decisions_for_another_size_are_refused(small):
    net, x = small
    with pytest.raises(InputError, match="16x16"):
        net.replay(x, net.open_decisions(len(x), (24, 24)))
    by_hand = Decisions(dict(net.open_decisions(3, (24, 24))))
    with pytest.raises(InputError, match="size="):
        net.cost(by_hand)
    with pytest.raises(InputError, match="different sizes"):
        Decisions.concatenate([net.open_decisions(1), net.open_decisions(1, (24, 24))])


def test_sizes_are_remembered_up_to_a_bound(small, monkeypatch):
    monkeypatch.setattr("convgate.gated.layouts._REMEMBERED", 2)
    net, _ = small
    first = net.graphs_at((16, 16))[False]
    other = net.graphs_at((18, 16))[False]
    for width in (20, 22):
        net.plan_at((16, width))
        assert net.graphs_at((18, 16))[False] is other, "used last, kept last"
    assert len(net._convgate.layouts.by_size) == 3
    assert net.graphs_at((16, 16))[False] is first
    assert copy.deepcopy(net).graphs_at((18, 16))[False] is other
    again = pickle.loads(pickle.dumps(net))
    assert not again._convgate.layouts.by_size
    with torch.no_grad():
        for size in ((16, 16), (20, 18)):
            assert torch.equal(again(images(size)), net(images(size)))


def test_one_compiled_graph_for_each_size(small):
    torch.compiler.reset()
    net, _ = small
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    with torch.no_grad():
        for size in ((16, 16), (24, 24), (20, 24), (16, 16), (24, 24)):
            torch.testing.assert_close(compiled(images(size)), net(images(size)))
    assert counter.frame_count == 3
    torch.compiler.reset()


@pytest.mark.parametrize("size", [(24, 24), (20, 28)])
def test_calibrated_at_another_size(size, scatter, randomise):
    torch.manual_seed(0)
    x = torch.randn(8, 3, *size)
    net = scatter(gate(randomise(create("cifar_resnet8", width=4), x), DualGating(), torch.zeros(1, 3, 16, 16)))
    calibrate(net, [x], 0.5, tolerance=0.02)
    with torch.no_grad():
        _, decisions = net.decide(x)
        assert float(net.cost(decisions).ratio.mean()) == pytest.approx(0.5, rel=0.02)


def test_a_new_size_within_autocast():
    """Reading a size casts weights of no content; autocast must not keep them for the run."""
    net = gate(create("cifar_resnet8", width=4), DualGating(masks="equal"), torch.zeros(1, 3, 16, 16)).train()
    with torch.autocast("cpu", torch.bfloat16):
        y, decisions = net.decide(images((24, 24)))
    assert y.float().sum().isfinite()
    assert net.cost(decisions).macs.sum() > 0


class _Chain(nn.Module):
    """Batch norms between convolutions, in which a thread may wait; code that PyTorch is patched for to be read."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.block = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)) for _ in range(6))
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        for layer in self.block:
            x = (x + layer(x)).relu()
        return self.last(x.mean((2, 3)).expand(x.shape[0], -1))


def test_several_threads_at_once_while_sizes_are_new(randomise):
    """Reading a size neither changes nor records what another thread computes."""
    net = gate(randomise(_Chain(), images((16, 16))), DualGating(masks="equal"), torch.zeros(1, 3, 16, 16)).eval()
    counted = []
    net.block[5].register_forward_hook(lambda *_: counted.append(1))
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    sizes = [(16, 16), *((16 + i, 20) for i in range(8))]
    alone = copy.deepcopy(net)
    with torch.no_grad():
        expected = {size: alone(images(size)) for size in sizes}
    counted.clear()

    def call(order):
        outputs = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=False):
            for size in order:
                outputs += [(size, net(images(size))), ((16, 16), net(images((16, 16))))]
        return outputs

    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(call, order) for order in (sizes, sizes[::-1], [(16, 16)] * 300)]
        outputs = [pair for result in running for pair in result.result()]
    assert all(torch.equal(output, expected[size]) for size, output in outputs)
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    assert len(counted) == len(outputs)
    assert not any(module.training for module in net.modules())


@pytest.mark.filterwarnings("ignore")
def test_a_new_size_leaves_weights_that_are_computed_alone():
    """Reading and counting see them as fake tensors; the network's own stay, and so do the hooks that compute them."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.utils.weight_norm(nn.Conv2d(4, 4, 3)))
    net = gate(model, ChannelGating(), torch.zeros(1, 3, 16, 16))
    y = net(images((16, 16)))
    weight = net.get_submodule("2").weight
    net.plan_at((20, 20))
    assert net.get_submodule("2").weight is weight
    assert torch.equal(net(images((16, 16))), y)
