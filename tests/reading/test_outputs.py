"""What a model returns keeps its structure and type."""

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

import convgate
from convgate.errors import TraceError

X = torch.randn(2, 3, 8, 8)


class Named(NamedTuple):
    logits: torch.Tensor
    maps: tuple[torch.Tensor, ...]
    auxiliary: torch.Tensor | None = None


@dataclass
class Data:
    logits: torch.Tensor
    auxiliary: torch.Tensor | None = None


class Returns(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.stem, self.head, self.output = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4), output
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))

    def forward(self, images):
        stem = self.stem(images)
        x = (stem + self.inner(stem)).relu()
        return self.output(self.head(x.mean((2, 3))), x)


class OwnDict(dict):
    """A dict with attributes, as libraries have them."""

    __getattr__ = dict.__getitem__


@dataclass
class ModelOutput(OrderedDict):
    """A dataclass that is a dict of its fields but for those that are None, as that of `transformers`."""

    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None

    def __post_init__(self):
        for name in ("logits", "hidden_states"):
            if getattr(self, name) is not None:
                self[name] = getattr(self, name)


OUTPUTS = {
    "named tuple": lambda y, x: Named(y, (x, x.mean(1))),
    "named tuple by keywords": lambda y, x: Named(maps=(x,), logits=y, auxiliary=x.sum(1)),
    "dataclass": lambda y, x: Data(logits=y),
    "None among a tuple": lambda y, x: (y, None, [None, x]),
    "dict of its own class": lambda y, x: OwnDict(logits=y, maps=[x]),
    "dataclass that is a dict": lambda y, x: ModelOutput(logits=y, hidden_states=(x,)),
    "dataclass that is a dict, in part": lambda y, x: ModelOutput(y),
    "sizes": lambda y, x: (y, x.shape, x.shape[-2:], [x.size()]),
    "None in a dict": lambda y, x: {"logits": y, "auxiliary": None},
}


def same(actual, expected):
    assert type(actual) is type(expected)
    if isinstance(expected, Data):
        actual, expected = vars(actual), vars(expected)
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        actual, expected = list(actual.values()), list(expected.values())
    if isinstance(expected, tuple | list):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            same(a, b)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("how", OUTPUTS)
@torch.no_grad()
def test_outputs_keep_their_types(how):
    model = Returns(OUTPUTS[how]).eval()
    net = convgate.gate(model, convgate.DualGating(), X).eval()
    assert net.plan.gates
    for batch in (1, 3):
        images = torch.randn(batch, 3, 8, 8)
        same(net.replay(images, net.open_decisions(batch)), model(images))


@pytest.mark.parametrize("how", ["dataclass", "dataclass that is a dict", "dataclass that is a dict, in part"])
@torch.no_grad()
def test_engines_return_the_fields_of_dataclasses(how):
    model = Returns(OUTPUTS[how]).eval()
    output = convgate.compile(model, X, threads=1)(X.numpy())
    expected = model(X)
    expected = expected if isinstance(expected, dict) else vars(expected)
    assert list(output) == list(expected)
    torch.testing.assert_close(torch.as_tensor(output["logits"]), expected["logits"], rtol=1e-3, atol=1e-4)


def test_engines_return_sizes():
    output = convgate.compile(Returns(OUTPUTS["sizes"]).eval(), X, threads=1, fallback="torch")(X.numpy())
    assert output[1:] == ((2, 8, 8, 8), (8, 8), ((2, 8, 8, 8),))


def test_what_cannot_be_rebuilt_is_refused_with_what_can():
    def by_default(y, x):
        output = defaultdict(list)
        output["logits"].append(y)
        return output

    with pytest.raises(TraceError, match="Return tensors, or tuples, lists, dicts"):
        convgate.gate(Returns(by_default), convgate.DualGating(), X)


def test_all_outputs_of_a_run_come_in_the_order_of_the_network():
    """What PyTorch computes is numbered after the rest."""
    model = Returns(lambda y, x: {"sorted": y.sort(1).values, "maps": [x, y]}).eval()
    outputs = convgate.compile(model, X, threads=1, fallback="torch").run(X.numpy()).outputs
    assert [array.shape for array in outputs] == [(2, 4), (2, 8, 8, 8), (2, 4)]
    torch.testing.assert_close(torch.as_tensor(outputs[0]), model(X)["sorted"], rtol=1e-3, atol=1e-4)
