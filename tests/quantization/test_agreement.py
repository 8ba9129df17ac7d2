"""The share of answers that stay, of classifiers."""

import pytest
import torch
from torch import nn

import convgate
from convgate.models import create
from convgate.quantization.agreement import agreement

IMAGES = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def answers(*classes):
    """A network that answers with these classes, image by image, as the first pixel says."""
    first = nn.Conv2d(3, 2, 16)
    first.weight.data.zero_()
    first.weight.data[1, 0, 0, 0] = 1
    first.bias.data = torch.tensor([0.5, 0.0])
    x = torch.zeros(len(classes), 3, 16, 16)
    x[:, 0, 0, 0] = torch.tensor(classes, dtype=torch.float32)
    return nn.Sequential(first, nn.Flatten()).eval(), x


def test_the_share_that_stays():
    network, x = answers(0, 1, 1, 0)
    exact = convgate.compile(network, x, threads=1)
    assert agreement(exact, exact, [x]) == 1
    network[0].bias.data[0] = 2  # always class 0
    other = convgate.compile(network, x, threads=1)
    assert agreement(exact, other, [x]) == 0.5
    assert agreement(exact, other, [x[:1], x[1:], x], most=2) == 0.5
    assert agreement(exact, other, [x[:1], x[1:]], most=1) == 1
    assert agreement(exact, other, []) is None


@pytest.mark.parametrize("cut", [2, 3])
def test_maps_are_no_answers(cut):
    model = create("cifar_resnet8", width=4)
    network = nn.Sequential(model.conv1, model.bn1, model.relu)[:cut].eval()
    engine = convgate.compile(network, IMAGES, threads=1)
    assert agreement(engine, engine, [IMAGES]) is None
