"""One program for images of every size: outputs, decisions and MACs are those of the network at that size."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convgate
from convgate import ChannelGating, DualGating
from convgate.engine import load
from convgate.errors import InputError
from convgate.models import create

SIZES = [(32, 32), (48, 40), (33, 47), (20, 28)]


@pytest.mark.parametrize("method", [DualGating(), ChannelGating()], ids=lambda m: type(m).__name__)
@torch.no_grad()
def test_gated_networks(method, tmp_path):
    torch.manual_seed(0)
    network = convgate.gate(create("cifar_resnet8", width=8), method, torch.zeros(1, 3, 32, 32)).eval()
    for _, gate in network.gate_modules():
        gate.offset.normal_(0, 1)
    engine = convgate.compile(network, threads=1)
    engine.save(tmp_path / "model.cgm")
    loaded = load(tmp_path / "model.cgm", threads=1)
    assert loaded.program.fixed == ""
    for size in SIZES:
        images = torch.randn(2, 3, *size)
        output, decisions = network.decide(images)
        given = {name: d.mask for name, d in decisions.items()}
        for one in (engine, loaded):
            run = one.run(images.numpy(), given=given)
            np.testing.assert_allclose(run.outputs[0], output.numpy(), rtol=1e-3, atol=1e-4)
            assert run.macs.tolist() == network.cost(decisions).macs.tolist()


@pytest.mark.parametrize("size", [(1280, 1312), (600, 8000)])
@torch.no_grad()
def test_photographs_of_millions_of_pixels(size):
    model, images = Pyramid().eval(), torch.rand(1, 3, *size)
    engine = convgate.compile(model, torch.zeros(1, 3, 32, 32), threads=1)
    expected = model(images)["out"]
    (found,) = engine.run(images.numpy()).outputs
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="too large"):
        engine(np.zeros((1, 3, 4200, 4000), np.float32))


class Pyramid(nn.Module):
    """A map brought to another's size, which Python makes numbers of."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        a = self.a(x)
        return {"out": self.last(a + F.interpolate(self.b(a), size=a.shape[-2:]))}


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.last = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4 * 64, 2)

    def forward(self, x):
        return self.last(self.a(x).flatten(1))


class Branching(nn.Module):
    """Python code that decides on the size, and pads by it."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.a(F.pad(x, (0, x.shape[3] // 8, 0, 0)))


class Odd(nn.Module):
    """Does something else at an odd height, which nothing at even heights shows."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.a(x) if x.shape[2] % 2 == 0 else self.b(x)


class Refusing(nn.Module):
    """Refuses odd heights."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        if x.shape[2] % 2:
            raise ValueError("the height is odd")
        return self.a(x)


class Rounded(nn.Module):
    """A map brought to another's size, while an earlier one has that size too, at even sizes."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        return F.interpolate(self.c(b), size=b.shape[-2:]), a


class Halves(nn.Module):
    """Joins maps that have the same size at even sizes only, and takes no others."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], 1)


@torch.no_grad()
def test_a_map_of_another_maps_size_at_odd_sizes():
    model = Rounded().eval()
    engine = convgate.compile(model, torch.zeros(1, 3, 16, 16), threads=1)
    for size in ((18, 20), (21, 31)):
        images = torch.randn(1, 3, *size)
        for found, right in zip(engine(images.numpy()), model(images), strict=True):
            np.testing.assert_allclose(found, right.numpy(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_network_of_even_sizes():
    model = Halves().eval()
    engine = convgate.compile(model, torch.zeros(1, 3, 16, 16), threads=1)
    images = torch.randn(1, 3, 18, 20)
    np.testing.assert_allclose(engine(images.numpy()), model(images).numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="does not take that size"):
        engine(np.zeros((1, 3, 17, 20), np.float32))


@torch.no_grad()
def test_a_map_of_another_maps_size():
    model = Pyramid().eval()
    engine = convgate.compile(model, torch.zeros(1, 3, 16, 16), threads=1)
    for size in ((16, 16), (21, 30)):
        images = torch.randn(2, 3, *size)
        np.testing.assert_allclose(engine(images.numpy())["out"], model(images)["out"].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [Flat(), Branching(), Odd(), Refusing()], ids=lambda m: type(m).__name__)
def test_what_fixes_the_size_is_named(model, tmp_path):
    engine = convgate.compile(model.eval(), torch.zeros(1, 3, 16, 16), threads=1)
    engine.save(tmp_path / "model.cgm")
    for one in (engine, load(tmp_path / "model.cgm", threads=1), pickle.loads(pickle.dumps(engine))):
        with pytest.raises(InputError, match=r"compiled for 16 x 16: it runs at one size \(.*(last|pad|a|odd)"):
            one(np.zeros((1, 3, 24, 24), np.float32))
        one(np.zeros((1, 3, 16, 16), np.float32))


def test_sizes_that_the_network_does_not_take():
    engine = convgate.compile(nn.Conv2d(3, 4, 5), torch.zeros(1, 3, 16, 16), threads=1)
    with pytest.raises(InputError, match=r"4 x 9.*The network does not take that size: nothing would be left of"):
        engine(np.zeros((1, 3, 4, 9), np.float32))


def test_a_few_sizes_stay_ready():
    engine = convgate.compile(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), threads=1)
    for side in range(4, 12):
        assert engine(np.zeros((1, 3, side, side), np.float32)).shape == (1, 4, side - 2, side - 2)
    assert len(engine._prepared) == 4
    assert copy.deepcopy(engine)(np.zeros((1, 3, 9, 9), np.float32)).shape == (1, 4, 7, 7)
