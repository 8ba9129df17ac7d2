"""Layers that will compute with integers are found, with what they share."""

import pytest
import torch
from torch import nn

import convgate
from convgate.engine.program import Element, IntegerComplete, IntegerConv, IntegerConvToFloat
from convgate.errors import InputError
from convgate.models import create
from convgate.quantization.reads import reads

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", [None, convgate.DualGating(), convgate.ChannelGating()], ids=repr)
@pytest.mark.parametrize("tie", [False, True], ids=["own", "tied"])
def test_they_are_those_of_the_program_of_integers_with_its_signs_and_scales(method, tie):
    torch.manual_seed(0)
    network = create("cifar_resnet8", width=8).train()
    if method:
        network = convgate.gate(network, method, IMAGES)
    found = {read.layer: read for read in reads(network, IMAGES, (), tie=tie)}
    assert network.training
    engine = convgate.quantize(network.eval(), [IMAGES], tie=tie, heads=None, threads=1)
    kinds = IntegerConv | IntegerConvToFloat | IntegerComplete
    ops = [op for op in engine.program.operations if isinstance(op, kinds)]
    assert found.keys() == {op.layer for op in ops}
    read = {op.layer: engine.program.value(op.inputs[0]) for op in ops}
    assert {name for name, one in found.items() if one.negative} == {
        name for name, value in read.items() if value.element is Element.INT8
    }
    for a in found:
        for b in found:
            assert (found[a].group == found[b].group) == (read[a].scale == read[b].scale), (a, b)


def test_a_layer_that_is_called_twice_has_one_range():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            x = self.a(x)
            return self.a(self.b(x.relu()))

    found = reads(Twice(), IMAGES, (), tie=True)
    assert [(read.layer, read.group, read.negative) for read in found] == [("a", 0, True), ("b", 1, False)]


def test_a_layer_that_is_called_twice_joins_the_ranges_of_other_layers():
    class Joining(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))

        def forward(self, x):
            y = self.a(x).relu()
            return self.b(y), self.c(x), self.c(y)

    found = {read.layer: (read.group, read.negative) for read in reads(Joining(), IMAGES, (), tie=True)}
    assert found == {"a": (0, True), "b": (0, True), "c": (0, True)}


def test_layers_that_are_kept_are_left_out_and_unknown_ones_refused():
    network = create("cifar_resnet8", width=4)
    found = {read.layer for read in reads(network, IMAGES, ["layer1", "fc"], tie=True)}
    assert {"conv1", "layer2.0.conv1"} <= found
    assert not {name for name in found if name.startswith(("layer1", "fc"))}
    with pytest.raises(InputError, match="layer9"):
        reads(network, IMAGES, ["layer9"], tie=True)
