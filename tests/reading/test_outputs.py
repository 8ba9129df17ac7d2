"""What a model returns keeps its structure and type."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

import convgate

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


OUTPUTS = {
    "named tuple": lambda y, x: Named(y, (x, x.mean(1))),
    "named tuple by keywords": lambda y, x: Named(maps=(x,), logits=y, auxiliary=x.sum(1)),
    "dataclass": lambda y, x: Data(logits=y),
    "None among a tuple": lambda y, x: (y, None, [None, x]),
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
    elif expected is not None:
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
