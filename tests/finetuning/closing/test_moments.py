"""Rows of a layer's equations are what it multiplies with its weights; moments are those of what it reads."""

import pytest
import torch
from torch import nn

from convgate import DualGating, gate
from convgate.finetuning.closing.moments import moments, output_size, rows, some_places
from convgate.finetuning.closing.readers import closable
from convgate.models import create


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 1, bias=False),
        nn.Conv2d(3, 5, 1, stride=2, bias=False),
        nn.Conv2d(3, 5, 3, padding=1, bias=False),
        nn.Conv2d(3, 5, (3, 5), stride=(2, 1), padding=(0, 2), dilation=(2, 1), bias=False),
        nn.Conv2d(3, 5, 3, padding="same", dilation=2, bias=False),
        nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect", bias=False),
    ],
    ids=str,
)
def test_rows_times_weights_are_the_layers_output(layer):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 11, 14)
    with torch.no_grad():
        wanted = layer(x)
        assert output_size(layer, x) == tuple(wanted.shape[2:])
        places = some_places(wanted.shape[2] * wanted.shape[3], 20)
        ours = rows(layer, x, places) @ layer.weight.flatten(1).T
        torch.testing.assert_close(ours, wanted.flatten(2)[:, :, places].transpose(1, 2).reshape(-1, 5))


def test_moments_are_those_of_what_the_reader_reads(randomise):
    torch.manual_seed(0)
    images = torch.randn(6, 3, 8, 8)
    net = gate(randomise(create("cifar_resnet8", width=4), images), DualGating(), images[:1]).eval()
    gates = closable(net)
    found = moments(net, gates, images.split(3))
    read = []
    layer = net.get_submodule(gates[0].readers[0].layer)
    hook = layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    with torch.no_grad():
        net(images)
    hook.remove()
    x = read[0].transpose(0, 1).flatten(1).T.double()  # 64 positions, all of them taken
    points = torch.cat([x, torch.ones(len(x), 1)], 1)
    torch.testing.assert_close(found[gates[0].gate], points.T @ points / len(points), rtol=1e-5, atol=1e-6)
