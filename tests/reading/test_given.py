"""What a sub-module is given, without running what lies behind it."""

import threading

import pytest
import torch
from torch import nn

from convgate.errors import InputError
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


def test_a_module_that_is_not_called_is_named():
    model = nn.Sequential(nn.Identity())
    with pytest.raises(InputError, match=r"\(Sequential\) does not call Linear"):
        given_to(nn.Linear(2, 2), model, torch.zeros(1))


def test_calls_in_other_threads_go_on():
    class Calls(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Identity()

        def forward(self, x):
            if threading.current_thread() is threading.main_thread():
                thread = threading.Thread(target=lambda: found.append(self(x + 1)))
                thread.start()
                thread.join()
            return self.part(x)

    found = []
    model = Calls()
    assert given_to(model.part, model, torch.zeros(2)).tolist() == [0, 0]
    assert found[0].tolist() == [1, 1]


def test_errors_before_it_are_the_models_own_and_leave_no_hook():
    model = nn.Sequential(Fails(), nn.Identity())
    with pytest.raises(RuntimeError, match="it runs"):
        given_to(model[1], model, torch.zeros(1))
    assert not model[1]._forward_pre_hooks
