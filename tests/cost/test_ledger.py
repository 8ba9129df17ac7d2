"""Whole networks' MACs: golden numbers, and counts made by hand from the masks."""

import pytest
import torch
from torch import nn

from convgate import Decision, Decisions, DualGating, gate, plan
from convgate.cost import LayerCost, Ledger
from convgate.errors import InputError
from convgate.gating import ChannelGroups, Tiles
from convgate.models import create


# Source: DGNet (ICCV 2021) and its code, `get_flops` of its CIFAR ResNets (stem, FC and option-B shortcuts included).
@pytest.mark.parametrize(
    ("depth", "dense", "gates"),
    [(20, 40_813_184, 103_232), (32, 69_124_736, 182_336), (56, 125_747_840, 340_544), (110, 253_149_824, 696_512)],
)
def test_golden_cifar(depth, dense, gates):
    ledger = plan(create(f"cifar_resnet{depth}").eval(), DualGating(), torch.zeros(1, 3, 32, 32)).ledger
    assert ledger.dense == dense
    assert ledger.gate_macs == gates


# Source: DGNet (ICCV 2021) and its code, `get_flops` of its ImageNet ResNets, in G and M to the digits given.
@pytest.mark.parametrize(
    ("name", "dense", "gates"),
    [("resnet18", 1.8141, 0.8898), ("resnet34", 3.6638, 1.9889), ("resnet50", 4.0892, 11.4794)],
)
def test_golden_imagenet(name, dense, gates):
    ledger = plan(create(name).eval(), DualGating(), torch.zeros(1, 3, 224, 224)).ledger
    assert round(ledger.dense / 1e9, 4) == dense
    assert round(ledger.gate_macs / 1e6, 4) == gates


def test_golden_mobilenet_v2():
    planned = plan(create("mobilenet_v2").eval(), DualGating(), torch.zeros(1, 3, 224, 224))
    # The true count; DGNet's code miscounts the stem as 3 * h * w * 3 * 32 and says 293.55M.
    assert round(planned.ledger.dense / 1e6, 2) == 300.77
    # DGNet's code gates the blocks with a shortcut: 10 of them, which hold 52.8 % of its (miscounted) MACs.
    assert len(planned.sites) == 10
    gated = sum(layer.macs for layer in planned.ledger.layers if layer.gated)
    stem_miscounted = (27 - 9) * 112 * 112 * 32
    assert round(gated / (planned.ledger.dense - stem_miscounted), 3) == 0.528


@pytest.mark.parametrize(("name", "grids"), [("resnet18", [7] * 8), ("cifar_resnet20", [8] * 6 + [4] * 3)])
def test_golden_tiles(name, grids):
    """DGNet's code: tiles of 8, 4, 2, 1 (all masks 7x7) on ImageNet; 4, 2, 2 on CIFAR (masks 8x8, 8x8, 4x4)."""
    size = 224 if name == "resnet18" else 32
    planned = plan(create(name).eval(), DualGating(), torch.zeros(1, 3, size, size))
    assert [g.shape for g in planned.gates if isinstance(g.kind, Tiles)] == [(1, n, n) for n in grids]


# -- counts by hand ------------------------------------------------------------------------------------------------


def open_positions(mask, height, width):
    rows, columns = mask.shape[-2:]
    return sum(int(mask[0, y * rows // height, x * columns // width]) for y in range(height) for x in range(width))


class Counter:
    """Counts one sample's MACs of a model, conv by conv, from masks and from the shapes that hooks see."""

    def __init__(self, model, x, decisions, sample):
        self.model, self.decisions, self.sample = model, decisions, sample
        self.sizes = {}
        hooks = [
            m.register_forward_hook(lambda m, args, y: self.sizes.__setitem__(m, tuple(y.shape[2:])))
            for m in model.modules()
            if isinstance(m, nn.Conv2d | nn.Linear)
        ]
        with torch.no_grad():
            model(x)
        for hook in hooks:
            hook.remove()
        self.gated = {}

    def mask(self, gate):
        return self.decisions[gate].mask[self.sample] if gate else None

    def conv(self, name, positions=None, inputs=None, outputs=None):
        conv = self.model.get_submodule(name)
        height, width = self.sizes[conv]
        p, i, o = map(self.mask, (positions, inputs, outputs))
        count = height * width if p is None else open_positions(p, height, width)
        i = torch.ones(conv.in_channels) if i is None else i.flatten()
        o = torch.ones(conv.out_channels) if o is None else o.flatten()
        pairs = sum(
            int(a.sum()) * int(b.sum()) for a, b in zip(i.chunk(conv.groups), o.chunk(conv.groups), strict=True)
        )
        self.gated[conv] = count * pairs * conv.kernel_size[0] * conv.kernel_size[1]

    def total(self):
        dense = 0
        for m, size in self.sizes.items():
            if m not in self.gated:
                dense += m.weight.numel() * (size[0] * size[1] if isinstance(m, nn.Conv2d) else 1)
        return dense + sum(self.gated.values())


def count_basic(counter):
    for b in (f"layer{stage}.{i}" for stage in range(1, 5) for i in range(2)):
        counter.conv(f"{b}.conv1", f"{b}.spatial", None, f"{b}.conv1.channel")
        counter.conv(f"{b}.conv2", f"{b}.spatial", f"{b}.conv1.channel", None)


def count_bottleneck(counter):
    for b in (f"layer{stage}.{i}" for stage, n in zip(range(1, 5), (3, 4, 6, 3), strict=True) for i in range(n)):
        counter.conv(f"{b}.conv1", f"{b}.spatial", None, f"{b}.conv1.channel")
        counter.conv(f"{b}.conv2", f"{b}.spatial", f"{b}.conv1.channel", f"{b}.conv2.channel")
        counter.conv(f"{b}.conv3", f"{b}.spatial", f"{b}.conv2.channel", None)


def count_inverted(counter):
    for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16):
        b = f"features.{i}.conv"
        channel = f"{b}.1.0.channel"
        counter.conv(f"{b}.0.0", f"{b}.spatial", None, channel)
        # Depthwise: channel c reads channel c, so in and out are open together.
        counter.conv(f"{b}.1.0", f"{b}.spatial", channel, channel)
        counter.conv(f"{b}.2", f"{b}.spatial", channel, None)


def count_vgg(counter):
    convs = [i for i, m in enumerate(counter.model.features) if isinstance(m, nn.Conv2d)]
    gates = {i: f"features.{i}.channel" for i in convs[1:-1]}
    for before, i in zip([None, *convs[:-1]], convs, strict=True):
        counter.conv(f"features.{i}", None, gates.get(before), gates.get(i))


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("resnet18", count_basic, (64, 64)),
        ("resnet18", count_basic, (70, 45)),
        ("resnet50", count_bottleneck, (64, 64)),
        ("resnext50_32x4d", count_bottleneck, (70, 45)),
        ("mobilenet_v2", count_inverted, (64, 64)),
        ("mobilenet_v2", count_inverted, (70, 45)),
        ("vgg16_bn", count_vgg, (32, 32)),
    ],
)
def test_costs_are_those_counted_by_hand(name, count, size, random_decisions):
    model = create(name).eval()
    x = torch.zeros(1, 3, *size)
    method = DualGating() if size[0] == size[1] else DualGating(tile=2)
    net = gate(model, method, x)
    decisions = random_decisions(net, 2, 0.5)
    cost = net.cost(decisions)
    for sample in range(2):
        counter = Counter(model, x, decisions, sample)
        count(counter)
        assert int(cost.macs[sample]) - net.ledger.gate_macs == counter.total()
        for m, macs in counter.gated.items():
            layer = next(key for key, module in model.named_modules() if module is m)
            assert int(cost.by_layer[layer][sample]) == macs


def positive(model):
    """Make every feature after an activation positive, so that what is zero was masked."""
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.Conv2d):
                m.weight.uniform_(0.5 / m.weight[0].numel(), 1.5 / m.weight[0].numel())
            elif isinstance(m, nn.BatchNorm2d):
                m.reset_running_stats()
                m.weight.fill_(1)
                m.bias.fill_(0.1)
    return model.eval()


@pytest.mark.parametrize("name", ["cifar_resnet8", "resnet50", "mobilenet_v2", "vgg16_bn"])
@torch.no_grad()
def test_what_is_not_counted_is_zero_in_the_features(name, random_decisions):
    """The inputs that convolutions really get: a channel closed everywhere is zero and is not counted."""
    x = torch.rand(2, 3, 64, 64)
    net = gate(positive(create(name)), DualGating(), x)
    decisions = random_decisions(net, 2, 0.6)
    cost = net.cost(decisions)
    seen = {}
    hooks = [
        m.register_forward_hook(lambda m, args, y, key=key: seen.__setitem__(key, args[0]))
        for key, m in net.named_modules()
        if isinstance(m, nn.Conv2d) and not key.startswith("gates.")
    ]
    net.replay(x, decisions)
    for hook in hooks:
        hook.remove()
    checked = 0
    for layer in net.ledger.layers:
        if layer.inputs is None or layer.groups > 1:
            continue
        # A sample whose positions are all closed has no open inputs either; it costs nothing both ways.
        open_inputs = (seen[layer.name].flatten(2).amax(2) > 0).sum(1)
        outputs = layer.out_channels
        if layer.outputs:
            outputs = decisions[layer.outputs].mask.flatten(1).sum(1).long()
        positions = layer.size[0] * layer.size[1]
        if layer.positions:
            mask = decisions[layer.positions].mask
            positions = torch.tensor([open_positions(m, *layer.size) for m in mask])
        expected = layer.kernel_area * positions * outputs * open_inputs
        assert cost.by_layer[layer.name].tolist() == expected.tolist(), layer.name
        checked += 1
    assert checked >= 3


# -- the ledger itself ---------------------------------------------------------------------------------------------


def test_training_cost_is_differentiable_and_equal(small):
    net, x = small
    net.train()
    _, decisions = net.decide(x)
    cost = net.cost(decisions)
    exact = net.cost(decisions.detach())
    assert cost.macs.requires_grad
    assert exact.macs.dtype == torch.int64
    torch.testing.assert_close(cost.macs, exact.macs.float())
    torch.testing.assert_close(cost.ratio, exact.macs / net.ledger.dense)
    assert cost.dense == exact.dense == net.ledger.dense
    assert list(cost.by_layer) == list(exact.by_layer)


def test_cost_refuses_decisions_of_another_network(small):
    net, _ = small
    decisions = net.open_decisions(2)
    first = next(iter(decisions))
    with pytest.raises(InputError, match=first.replace(".", r"\.")):
        net.cost(Decisions({k: v for k, v in decisions.items() if k != first}))
    with pytest.raises(InputError, match="elsewhere"):
        net.cost(Decisions({**decisions, "elsewhere": decisions[first]}))


def test_cost_refuses_masks_of_another_shape(make_small):
    net, _ = make_small()
    fine, _ = make_small(DualGating(tile=1))
    with pytest.raises(InputError):
        net.cost(fine.open_decisions(2))


def test_uncounted_operations_are_listed():
    ledger = plan(create("resnet18").eval(), DualGating(), torch.zeros(1, 3, 64, 64)).ledger
    # 16 convolutions in blocks, the stem and 3 shortcuts, each with a batch norm.
    assert "BatchNorm2d x20" in ledger.uncounted
    assert not any(kind.startswith(("Conv2d", "Linear")) for kind in ledger.uncounted)


def test_an_ungated_layer_costs_its_dense_macs():
    ledger = Ledger((LayerCost("fc", 7), LayerCost("conv", 6, 1, 1, 2, 3, outputs="g")), {"g": 5})
    mask = torch.tensor([[1.0, 0, 1], [0, 0, 0]]).view(2, 3, 1, 1)
    cost = ledger.cost(Decisions({"g": Decision(ChannelGroups(mask.shape[1]), mask)}))
    assert cost.macs.tolist() == [7 + 4 + 5, 7 + 0 + 5]
    assert {k: v.tolist() for k, v in cost.by_layer.items()} == {"fc": [7, 7], "conv": [4, 0], "gates.g": [5, 5]}
    assert cost.dense == 13


def test_fractions_are_counted_as_such_also_without_a_gradient():
    """Improved SemHash gives some samples soft masks in training; rounding them would count nothing."""
    ledger = Ledger((LayerCost("conv", 6, 1, 1, 2, 3, outputs="g"),), {"g": 5})
    mask = torch.tensor([[1.0, 0.5, 0.25], [0, 1, 1]]).view(2, 3, 1, 1)
    cost = ledger.cost(Decisions({"g": Decision(ChannelGroups(mask.shape[1]), mask)}))
    assert cost.macs.tolist() == [2 * 1.75 + 5, 2 * 2 + 5]


def test_masks_that_were_stored_as_bool_are_counted_alike(small):
    net, x = small
    _, decisions = net.decide(x)
    stored = Decisions((name, Decision(d.kind, d.mask.detach().bool())) for name, d in decisions.items())
    assert torch.equal(net.cost(stored).macs, net.cost(decisions.detach()).macs)
