"""With fallback="torch" every traced network compiles: what PyTorch computes may be of any shape and type."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

import convgate
from convgate import ChannelGating, DualGating


class Net(nn.Module):
    """A convolution, what `use` makes of it, and a convolution where that is a map of 8 channels."""

    def __init__(self, use, **layers):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.use = use
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        y = self.use(self, self.first(x))
        return self.last(y) if isinstance(y, torch.Tensor | torch.fx.Proxy) else y


def attention(m, x):
    tokens = x.flatten(2).transpose(1, 2)
    return m.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


def rows(m, x):
    return m.lstm(x.mean(2).transpose(1, 2))[0].transpose(1, 2)[:, :, None]


def changed_part(m, x):
    x[:, :2].add_(1)
    x.flatten(2).erf_()
    return x * 2


def changed_view(m, x):
    tokens = x.flatten(2).transpose(1, 2)
    tokens.mul_(3)
    return x + 1


def standardised(m, x):
    weight = (m.weight - m.weight.mean()) / m.weight.std()
    return F.conv2d(x, weight, padding=1)


def split_in_five(m, x):
    return x.view(-1, 2, 4, 8, 8).softmax(1).sum(1).repeat(1, 2, 1, 1)


def hooked():
    layer = nn.Conv2d(8, 8, 1)
    layer.register_forward_hook(doubled)
    return layer


def doubled(module, arguments, output):
    return output * 2


NETS = {
    "attention": Net(attention, attention=nn.MultiheadAttention(8, 2, batch_first=True)),
    "lstm": Net(rows, lstm=nn.LSTM(8, 8, batch_first=True)),
    "computed weights": Net(standardised, weight=nn.Parameter(torch.rand(8, 8, 3, 3))),
    "five dimensions": Net(split_in_five),
    "hooks": Net(lambda m, x: m.layer(x), layer=hooked()),
    "a part changed in place": Net(changed_part),
    "a view changed in place": Net(changed_view),
    "a tuple": Net(lambda m, x: (x, x.flatten(2), [None, x.mean((2, 3))])),
    "a dict": Net(lambda m, x: {"out": x.erf(), "none": None, "aux": (x.argmax(1), x.size(2))}),
}


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_outputs_are_the_networks(name):
    torch.manual_seed(0)
    model = copy.deepcopy(NETS[name]).eval()
    images = torch.randn(3, 3, 8, 8)
    engine = convgate.compile(model, images[:1], threads=1, fallback="torch")
    for batch in (images, images[:1]):
        expected = tree_leaves(model(batch.clone()))
        actual = tree_leaves(engine(batch.numpy()))
        assert len(actual) == len(expected)
        for ours, theirs in zip(actual, expected, strict=True):
            if isinstance(theirs, torch.Tensor):
                np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4)
            else:
                assert ours == theirs


@torch.no_grad()
def test_names_of_outputs():
    images = torch.randn(2, 3, 8, 8)
    engine = convgate.compile(NETS["a dict"].eval(), images, threads=1, fallback="torch")
    assert list(engine(images.numpy())) == ["out", "none", "aux"]
    outputs = engine.run(images.numpy()).outputs
    np.testing.assert_allclose(outputs["out"], engine(images.numpy())["out"])
    assert outputs["none"] is None
    assert len(outputs) == 3


def test_an_engine_explains_what_pytorch_computes():
    engine = convgate.compile(NETS["hooks"].eval(), torch.zeros(1, 3, 8, 8), threads=1, fallback="torch")
    explanation = engine.explain()
    own, other, last = 8 * 27 * 64, 8 * 8 * 64, 4 * 8 * 64
    assert explanation.native_share == pytest.approx((own + last) / (own + other + last))
    assert "it has hooks" in str(explanation)
    assert {row.name for row in explanation.rows if row.native} == {"first", "last"}
    assert convgate.compile(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8)).explain().native_share == 1


class Circular(nn.Module):
    """A residual branch that PyTorch computes, gates apart."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.b = (nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular") for _ in range(2))
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.stem(x)
        return F.relu(x + self.b(F.gelu(self.norm(self.a(x)))).clone())


class Response(nn.Module):
    """A layer without a native form, as ConvNeXt V2 has between its convolutions."""

    def forward(self, x):
        return x * x.norm(dim=(2, 3), keepdim=True)


class Behind(nn.Module):
    """Convolutions directly behind what PyTorch computes."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.response = Response()

    def forward(self, x):
        x = self.stem(x)
        return x + self.b(self.response(F.gelu(self.a(x))))


@pytest.mark.parametrize(
    ("model", "method"),
    [
        (Circular, DualGating(init="paper")),
        (Circular, ChannelGating(init="paper")),
        (Circular, ChannelGating(form="paper", init="paper")),
        (Behind, ChannelGating(init="paper")),
    ],
    ids=str,
)
@torch.no_grad()
def test_macs_are_the_ledgers_where_pytorch_computes(model, method):
    torch.manual_seed(0)
    images = torch.randn(3, 3, 8, 8)
    network = convgate.gate(model().eval(), method, images).eval()
    for _, gate in network.gate_modules():
        gate.offset.normal_(0, 0.5)
    output, decisions = network.decide(images)
    engine = convgate.compile(network, threads=1, fallback="torch")
    run = engine.run(images.numpy(), given={name: d.mask for name, d in decisions.items()})
    np.testing.assert_allclose(run.outputs[0], output.numpy(), rtol=1e-4, atol=1e-4)
    cost = network.cost(decisions)
    assert {layer: macs.tolist() for layer, macs in run.by_layer.items()} == {
        layer: macs.tolist() for layer, macs in cost.by_layer.items()
    }
    assert run.macs.tolist() == cost.macs.tolist()
    free = engine.run(images.numpy())
    assert all((free.decisions[name].mask == d.mask.numpy()).all() for name, d in decisions.items())


@torch.no_grad()
def test_an_engine_with_pytorch_is_pickled():
    images = torch.randn(2, 3, 8, 8)
    for name in ("attention", "hooks", "computed weights"):
        engine = convgate.compile(NETS[name].eval(), images, threads=1, fallback="torch")
        for other in (pickle.loads(pickle.dumps(engine)), copy.deepcopy(engine)):
            assert (other(images.numpy()) == engine(images.numpy())).all()
