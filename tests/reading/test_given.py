"""What a sub-module is given, without running what lies behind it."""

import pytest
import torch
from torch import nn

from convgate.reading.given import given_to


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("it runs")


def test_the_call_ends_where_the_module_begins():
    model = nn.Sequential(nn.Flatten(), Fails())
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(given_to(model[1], model, x), x.flatten(1))
    with pytest.raises(RuntimeError, match="it runs"):
        model(x)


def test_errors_before_it_are_the_models_own_and_leave_no_hook():
    model = nn.Sequential(Fails(), nn.Identity())
    with pytest.raises(RuntimeError, match="it runs"):
        given_to(model[1], model, torch.zeros(1))
    assert not model[1]._forward_pre_hooks
