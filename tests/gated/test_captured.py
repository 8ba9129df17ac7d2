"""What a gated network takes for its own, and what is the model's or a subclass's."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import convgate
from convgate.errors import InputError


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        x = self.first(x).relu()
        return ((x + self.second(x)) * self.scale).mean((2, 3))


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x

    def right_inverse(self, x):
        return x / 2


@pytest.fixture
def net():
    return convgate.gate(Scaled(), convgate.DualGating(), torch.zeros(2, 3, 16, 16))


def test_a_parametrized_parameter_of_the_root_can_be_set(net):
    # torch makes a subclass with a property of the parameter's name.
    parametrize.register_parametrization(net, "scale", Doubled())
    net.scale = torch.full((1,), 3.0)
    assert net.scale.item() == 3.0


def test_what_every_gated_network_has_cannot_be_set(net):
    for name in ("decide", "plan", "ledger_at", "dense"):
        with pytest.raises(InputError, match=f"'{name}' is a part of every gated network"):
            setattr(net, name, 1)
