"""MACs of every node: by hand, and against PyTorch's counter where that one is right."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.flop_counter import FlopCounterMode

from convgate.cost import count_macs, node_macs
from convgate.cost.formulas import formulas, recurrent_layers
from convgate.errors import TraceError
from convgate.reading import trace


class Sequence(nn.Module):
    """Images as sequences of their positions, [N, H * W, C], for layers that take those."""

    def __init__(self, layer, call=lambda layer, x: layer(x)):
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x):
        out = self.call(self.layer, x.flatten(2).transpose(1, 2))
        return out[0] if isinstance(out, tuple) else out


class Call(nn.Module):
    """A function of the images and of a module's parameters."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, shape in parameters.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))

    def forward(self, x):
        return self.function(self, x)


def itself(layer, x):
    return layer(x, x, x)


C, H, W = 8, 3, 4
N = H * W

BY_HAND = {
    "convolution": (nn.Conv2d(C, 6, 3, padding=1, groups=2), 9 * N * 4 * 6),
    "transposed": (nn.ConvTranspose2d(C, 6, 2, 2, groups=2), N * 4 * C * 3),
    "1-d": (Call(lambda m, x: F.conv1d(x.flatten(2), m.w, padding=1), w=(5, C, 3)), N * 3 * C * 5),
    "3-d": (Call(lambda m, x: F.conv3d(x.unsqueeze(2), m.w), w=(5, C, 1, 2, 2)), 2 * 3 * 4 * C * 5),
    "1-d transposed": (Call(lambda m, x: F.conv_transpose1d(x.flatten(2), m.w), w=(C, 5, 3)), N * 3 * C * 5),
    "linear at positions": (Sequence(nn.Linear(C, 5)), N * C * 5),
    "functional linear": (Call(lambda m, x: F.linear(x.mean((2, 3)), m.w), w=(5, C)), C * 5),
    "einsum": (Call(lambda m, x: torch.einsum("nchw,oc->nohw", x, m.w), w=(5, C)), N * C * 5),
    "matrix times vector": (Call(lambda m, x: x.flatten(2).transpose(1, 2) @ m.w, w=(C,)), N * C),
    "addmv": (Call(lambda m, x: torch.addmv(m.b, x[0].flatten(1), m.w), b=(C,), w=(N,)), N * C),
    "dot": (Call(lambda m, x: torch.dot(x.mean((0, 2, 3)), m.w), w=(C,)), C),
    "addbmm": (Call(lambda m, x: torch.addbmm(m.b, x[0], m.w), b=(H, 5), w=(C, W, 5)), C * H * W * 5),
    "baddbmm": (Call(lambda m, x: torch.baddbmm(m.b, x[0], m.w), b=(C, H, 5), w=(C, W, 5)), C * H * W * 5),
    "bilinear": (Sequence(nn.Bilinear(C, C, 5), lambda layer, x: layer(x, x)), N * C * C * 5),
    "attention function": (Sequence(None, lambda _, x: F.scaled_dot_product_attention(x, x, x)), 2 * N * N * C),
    "attention": (Sequence(nn.MultiheadAttention(C, 2, batch_first=True), itself), N * C * 4 * C + 2 * N * N * C),
    "encoder layer": (
        Sequence(nn.TransformerEncoderLayer(C, 2, 16, batch_first=True)),
        N * C * 4 * C + 2 * N * N * C + 2 * N * C * 16,
    ),
    "RNN": (Sequence(nn.RNN(C, 5, batch_first=True)), N * 5 * (C + 5)),
    "GRU": (Sequence(nn.GRU(C, 5, batch_first=True)), N * 15 * (C + 5)),
    "LSTM": (Sequence(nn.LSTM(C, 5, batch_first=True)), N * 20 * (C + 5)),
    "deep LSTM": (
        Sequence(nn.LSTM(C, 5, 2, batch_first=True, bidirectional=True)),
        2 * N * 20 * (C + 5) + 2 * N * 20 * (10 + 5),
    ),
    "LSTM cell": (Sequence(nn.LSTMCell(C, 5), lambda cell, x: cell(x[:, 0])), 20 * (C + 5)),
    "GRU cell": (Sequence(nn.GRUCell(C, 5), lambda cell, x: cell(x[:, 0])), 15 * (C + 5)),
    "weight of two factors": (
        Call(lambda m, x: F.conv2d(x, (m.u @ m.v).view(5, C, 1, 1)), u=(5, 2), v=(2, C)),
        N * C * 5 + 5 * 2 * C,
    ),
    "nothing": (nn.Sequential(nn.BatchNorm2d(C)), 0),
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("batch", [1, 3])
def test_macs_of_one_image_by_hand(name, batch):
    model, macs = BY_HAND[name]
    assert sum(node_macs(trace(model.eval(), torch.zeros(batch, C, H, W))).values()) == macs
    assert count_macs(model, (C, H, W)) == macs


def test_each_node_has_its_own_count():
    model = nn.Sequential(nn.Conv2d(C, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1, groups=6))
    assert node_macs(trace(model, torch.zeros(2, C, H, W))) == {"_0": N * C * 6, "_2": N * 6 * 9}


def test_another_size_of_image_can_be_counted():
    read = trace(nn.Conv2d(C, 6, 3, padding=1), torch.zeros(2, C, H, W))
    assert node_macs(read, (C, 2 * H, W)) == {name: 2 * macs for name, macs in node_macs(read).items()}


def test_counting_computes_nothing():
    wide = nn.Sequential(nn.Conv2d(C, 512, 3, padding=1), nn.Conv2d(512, 512, 3, padding=1))
    # 4.6 TB of activations, were they computed.
    assert count_macs(wide, (C, 2**15, 2**15)) == 2**30 * 9 * 512 * (C + 512)


def test_counting_changes_nothing(monkeypatch):
    model = nn.Sequential(nn.Conv2d(C, 6, 1), nn.BatchNorm2d(6)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_macs(model, (C, H, W))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()


def test_deformable_convolutions_are_counted_as_convolutions():
    from torchvision.ops import deform_conv2d

    model = Call(
        lambda m, x: deform_conv2d(x, F.conv2d(x, m.o, padding=1), m.w, padding=1), o=(18, C, 3, 3), w=(6, 4, 3, 3)
    )
    assert count_macs(model, (C, H, W)) == 9 * N * (C * 18 + 4 * 6)


def test_recurrent_layers_of_cudnn():
    lstm = nn.LSTM(C, 5, 2, bidirectional=True)
    assert recurrent_layers((7, 2, C), [p.shape for p in lstm.parameters()]) == 14 * 2 * 20 * (C + 5 + 10 + 5)


def test_every_formula_is_documented():
    assert all(formula.__doc__ and ":" in formula.__doc__ for formula in formulas().values())


def test_what_needs_values_is_refused_by_its_node():
    class Peeks(nn.Module):
        def forward(self, x):
            return x[x > 0].view(-1)

    with pytest.raises(TraceError, match=r"calls getitem, whose result depends on values"):
        node_macs(trace(Peeks(), torch.ones(1, C, H, W)))


@st.composite
def layers(draw):
    """A layer that PyTorch's counter counts rightly, and an image that it takes."""
    groups = draw(st.integers(1, 3))
    inputs, outputs = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 4))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    kind = draw(st.sampled_from([nn.Conv2d, nn.ConvTranspose2d]))
    size = (draw(st.integers(9, 12)), draw(st.integers(9, 12)))
    layer = kind(inputs, outputs, kernel, stride, padding, groups=groups, dilation=dilation, bias=draw(st.booleans()))
    return layer, (inputs, *size)


@settings(max_examples=40, deadline=None)
@given(layers(), st.integers(1, 3))
def test_convolutions_as_pytorch_counts_them(drawn, batch):
    layer, image = drawn
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(batch, *image))
    assert count_macs(layer, image) == counter.get_total_flops() // 2 // batch


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_attention_as_its_two_products(heads, depth, queries, keys):
    def two_products(m, x):
        q, k = m.q.expand(1, -1, -1, -1), m.k.expand(1, -1, -1, -1)
        return (q @ k.transpose(2, 3)).softmax(3) @ k

    def fused(m, x):
        q, k = m.q.expand(1, -1, -1, -1), m.k.expand(1, -1, -1, -1)
        return F.scaled_dot_product_attention(q, k, k)

    shapes = {"q": (heads, queries, depth), "k": (heads, keys, depth)}
    assert count_macs(Call(fused, **shapes), (1, 1, 1)) == count_macs(Call(two_products, **shapes), (1, 1, 1))


@pytest.mark.parametrize("parametrization", [spectral_norm, weight_norm])
def test_computing_a_parametrized_weight_is_not_counted(parametrization):
    model = nn.Sequential(parametrization(nn.Conv2d(3, 8, 3, padding=1)), nn.ReLU())
    assert node_macs(trace(model, torch.zeros(2, 3, 4, 4))) == {"_0": 3456}
    assert count_macs(model, (3, 4, 4)) == 3456


@pytest.mark.parametrize("hooked", [nn.utils.spectral_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore")
def test_computing_a_weight_in_a_hook_is_not_counted(hooked):
    model = nn.Sequential(hooked(nn.Conv2d(3, 8, 3, padding=1)), nn.ReLU())
    traced = trace(model, torch.zeros(2, 3, 4, 4))
    before = traced.module[0].weight
    assert node_macs(traced) == {"_0": 3456}
    assert traced.module[0].weight is before
    assert traced.module[0]._forward_pre_hooks


@pytest.mark.filterwarnings("ignore")
def test_a_weight_that_cannot_be_computed_leaves_the_others_alone():
    model = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 3, 1)), nn.utils.weight_norm(nn.Conv2d(3, 3, 1)))
    weight = model[0].weight
    del model[1].weight_g
    with pytest.raises(AttributeError, match="weight_g"):
        count_macs(model, (3, 4, 4))
    assert model[0].weight is weight
    assert model[0]._forward_pre_hooks
    assert torch.backends.mha.get_fastpath_enabled()


def test_counting_switches_no_layer():
    """Another thread may be calling the model, and would see its modes change."""
    seen = []

    class Watched(nn.Conv2d):
        def forward(self, x):
            seen.append(model[0].training)
            return super().forward(x)

    model = nn.Sequential(Watched(3, 3, 1)).train()
    count_macs(model, (3, 4, 4))
    assert seen == [True]
