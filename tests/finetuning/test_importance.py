"""Units are ordered by what closing them would do to the answers."""

from itertools import product

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from convgate import DualGating, gate
from convgate.finetuning.importance import importance, order_gates
from convgate.gating import Decision
from convgate.models import create


@pytest.fixture
def made(randomise):
    torch.manual_seed(0)
    images = torch.randn(16, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=4), images)
    return gate(model, DualGating(masks="equal"), images[:1]).eval(), images


def test_every_unit_of_every_gate_has_one(made):
    net, images = made
    found = importance(net, [images])
    for name, module in net.gate_modules():
        assert found[name].shape == module.offset.shape
        assert bool((found[name] >= 0).all())


def test_a_unit_that_changes_no_answer_has_none(made):
    net, images = made
    name = next(name for name, _ in net.gate_modules() if name.endswith("channel"))
    layer = net.get_submodule(name.removesuffix(".channel"))
    norm = net.get_submodule(name.removesuffix("conv1.channel") + "bn1")
    with torch.no_grad():
        layer.weight[1], norm.weight[1], norm.bias[1] = 0, 0, 0
    found = importance(net, [images])[name].flatten()
    assert found[1] == 0
    assert found[[0, 2, 3]].max() > 0


def test_it_foretells_which_unit_moves_the_answers_more(made):
    """Of the channels of one gate, against the divergence of the answers when each is closed."""
    net, images = made
    torch.manual_seed(1)
    name, gate_ = [(name, g) for name, g in net.gate_modules() if name.endswith("channel")][-1]
    found = importance(net, [images] * 30, images=480)[name].flatten()
    opened = net.open_decisions(len(images), (16, 16))
    moved = []
    with torch.no_grad():
        whole = net.replay(images, opened).log_softmax(1)
        for unit in range(gate_.offset.numel()):
            mask = torch.ones_like(opened[name].mask)
            mask[:, unit] = 0
            closed = opened.map(lambda n, d, mask=mask: Decision(d.kind, mask) if n == name else d)
            ours = net.replay(images, closed).log_softmax(1)
            moved.append(float((whole.exp() * (whole - ours)).sum(1).mean()))
    ranks = [torch.as_tensor(values).argsort().argsort().double() for values in (found.tolist(), moved)]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.6


def test_of_a_map_it_is_that_of_its_positions_together():
    """Positions answer independently, so that their information adds up."""
    torch.manual_seed(0)
    images = torch.randn(4, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), BasicBlock(4, 4), nn.Conv2d(4, 6, 1)).eval()
    net = gate(model, DualGating(masks="equal"), images[:1])
    found = importance(net, [images] * 200, images=800)
    name = next(name for name in found if name.endswith("channel"))
    wanted = torch.zeros_like(found[name])
    opened = net.open_decisions(4, (8, 8))
    mask = opened[name].mask.requires_grad_(True)
    logits = net(images, given=opened.map(lambda n, d: Decision(d.kind, mask) if n == name else d))
    chances = logits.log_softmax(1)
    for y, x, answer in product(range(8), range(8), range(6)):
        slope = torch.autograd.grad(chances[:, answer, y, x].sum(), mask, retain_graph=True)[0]
        weight = chances[:, answer, y, x].exp().detach()
        wanted += (weight[:, None, None, None] * slope.view(4, *wanted.shape).square()).mean(0)
    ratio = found[name] / wanted
    torch.testing.assert_close(ratio / ratio.mean(), torch.ones_like(ratio), rtol=0.25, atol=0)


def test_ordering_closes_nothing(made):
    net, images = made
    before = net(images)
    order_gates(net, [images])
    torch.testing.assert_close(net(images), before)
    assert len({float(g.offset.mean()) for _, g in net.gate_modules()}) > 3
    assert net.cost(net.decide(images)[1]).ratio.min() > 1
