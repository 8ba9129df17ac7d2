"""Without its closed channels a network is a smaller one with the same answers."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

import convgate
from convgate import DualGating, gate
from convgate.errors import PlanError
from convgate.finetuning.closing.pruned import pruned
from convgate.finetuning.closing.readers import closable
from convgate.finetuning.closing.reconstruct import masks_of
from convgate.models import create, create_model


class Scaled(nn.Module):
    """A feature that a squeeze-and-excitation rescales before it is read."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 6, 3)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())

    def forward(self, x):
        y = torch.relu(self.b(torch.relu(self.a(x))))
        return self.c(y * self.gate(y)).mean((2, 3))


def half_open(net):
    torch.manual_seed(1)
    is_open = {g.gate: torch.rand(g.units) < 0.6 for g in closable(net)}
    for units in is_open.values():
        units[0] = True
    return is_open


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("cifar_resnet8", {}),
        ("cifar_resnet8", {"group": 4}),
        ("cifar_resnet8", {"group": 3}),  # of 8, 16 and 32 channels: the last group is smaller
        ("mobilenet_v2", {}),
        ("timm/mobilenetv2_035", {}),
    ],
    ids=str,
)
def test_it_answers_as_the_masked_network_does(randomise, model, options):
    torch.manual_seed(0)
    images = torch.randn(3, 3, 32, 32)
    built = randomise(create_model(model) if "mobile" in model else create(model, width=8), images).eval()
    net = gate(built, DualGating(where="everywhere", **options), images[:1]).eval()
    is_open = half_open(net)
    smaller = pruned(net, is_open)
    assert type(smaller) is type(built)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in built.parameters())
    with torch.no_grad():
        wanted = net(images, given=masks_of(net, is_open, len(images), (32, 32)))
        torch.testing.assert_close(smaller(images), wanted, rtol=1e-4, atol=1e-4)


def test_the_engine_runs_it_and_executes_less(randomise):
    images = torch.randn(2, 3, 32, 32)
    built = randomise(create("cifar_resnet8", width=8), images).eval()
    net = gate(built, DualGating(), images[:1]).eval()
    is_open = half_open(net)
    smaller = pruned(net, is_open)
    run = convgate.compile(smaller, images[:1], threads=1).run(images.numpy())
    with torch.no_grad():
        given = masks_of(net, is_open, len(images), (32, 32))
        wanted = net(images, given=given)
    torch.testing.assert_close(torch.from_numpy(run.outputs[0]), wanted, rtol=1e-4, atol=1e-4)
    # The ledger's MACs without what the gates themselves cost.
    heads = net.cost(net.open_decisions(1)).macs.item() - net.ledger.dense
    assert run.macs.tolist() == (net.cost(given).macs - heads).tolist()


def test_nothing_closed_is_the_whole_network(randomise):
    images = torch.randn(2, 3, 16, 16)
    built = randomise(create("cifar_resnet8", width=4), images).eval()
    net = gate(built, DualGating(), images[:1]).eval()
    with torch.no_grad():
        assert torch.equal(pruned(net, {})(images), built(images))


def test_what_cannot_be_taken_out_is_named(randomise):
    """A feature that is rescaled before it is read, one that is made in groups, and one that is read in groups."""
    images = torch.randn(2, 3, 32, 32)
    grouped = ResNet(Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=8)
    for model, gates in ((Scaled(), ["b.channel"]), (grouped, ["layer1.0.conv2.channel", "layer1.0.conv1.channel"])):
        net = gate(randomise(model, images).eval(), DualGating(where="everywhere"), images[:1]).eval()
        is_open = half_open(net)
        for name in gates:
            with pytest.raises(PlanError, match=name):
                pruned(net, {name: is_open[name]})
