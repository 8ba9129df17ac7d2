"""Which convolutions ChannelGating gates, and why it leaves the others out."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import convgate
from convgate import ChannelGating, gate, plan
from convgate.errors import PlanError
from convgate.models import create


def reasons(model, method, size=32):
    return reasons_of(model, method, torch.zeros(1, 3, size, size))


def reasons_of(model, method, example):
    planned = plan(model.eval(), method, example)
    convs = {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    found = {rejected.name: rejected.reason for rejected in planned.skipped}
    # Nothing is dropped in silence.
    assert convs <= {site.name for site in planned.sites} | set(found)
    text = str(planned)
    assert all(name in text for name in convs)
    return planned, found


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "cifar_vgg16", "timm/resnetv2_50"])
def test_every_convolution_is_gated_or_skipped_for_a_reason(name, randomise):
    torch.manual_seed(0)
    model = create(name)
    planned, found = reasons(model, ChannelGating(), 64)
    assert planned.sites
    assert not {site.name for site in planned.sites} & set(found)
    x = torch.randn(2, 3, 64, 64)
    net = gate(randomise(model, x), ChannelGating(), x)
    with torch.no_grad():
        y = model(x)
        assert (net.replay(x, net.open_decisions(2)) - y).abs().max() <= 1e-5 * y.abs().max()


def test_first_is_the_first_convolution_of_each_branch():
    planned, found = reasons(create("resnet50"), ChannelGating(convs="first"), 64)
    assert [s.name for s in planned.sites] == [
        f"layer{i}.{j}.conv1" for i, n in enumerate((3, 4, 6, 3), 1) for j in range(n)
    ]
    assert "not the first" in found["layer1.0.conv2"]


def test_activated_are_those_in_front_of_an_activation():
    after, before = (
        plan(create("cifar_resnet8", activation=where), ChannelGating(convs="activated"), torch.zeros(1, 3, 32, 32))
        for where in ("after_sum", "before_sum")
    )
    firsts = [f"layer{stage}.0.conv1" for stage in (1, 2, 3)]
    assert [site.name for site in after.sites] == firsts
    assert [site.name for site in before.sites] == sorted([*firsts, *(n.replace("conv1", "conv2") for n in firsts)])
    assert "not followed by an activation (convs='activated')" in str(after)


def test_named_convolutions_are_gated_the_first_layer_too(tmp_path, randomise):
    model = nn.Sequential(nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 8, 3))
    planned, found = reasons_of(model, ChannelGating(convs=["0"]), torch.zeros(1, 8, 9, 9))
    assert [s.name for s in planned.sites] == ["0"]
    assert "not named" in found["2"]
    with pytest.raises(PlanError, match=r"layer9.*0, 2"):
        plan(model, ChannelGating(convs=("0", "layer9")), torch.zeros(1, 8, 9, 9))
    # A tuple is a list in a file.
    net = gate(create("cifar_resnet8"), ChannelGating(convs=("layer1.0.conv2",)), torch.zeros(1, 3, 16, 16))
    convgate.save(net, tmp_path / "net.safetensors")
    again = convgate.load(tmp_path / "net.safetensors")
    assert [s.name for s in again.plan.sites] == ["layer1.0.conv2"]
    assert ChannelGating(convs=["a"]) == ChannelGating(convs=("a",))


def test_reasons():
    planned, found = reasons(create("cifar_resnet8", width=6), ChannelGating())
    assert "6 input channels are not divided by 4" in found["layer1.0.conv1"]
    assert [s.name for s in planned.sites] == [
        "layer2.0.conv2",
        "layer3.0.conv1",
        "layer3.0.conv2",
        "layer3.0.downsample.0",
    ]
    _, found = reasons(create("cifar_resnet8"), ChannelGating(partitions=3))
    assert "reads the images" in found["conv1"]
    _, found = reasons(create("mobilenet_v2"), ChannelGating(), 64)
    assert "32 groups" in found["features.1.conv.0.0"]
    _, found = reasons(create("timm/resnetv2_50"), ChannelGating(form="paper"), 64)
    assert 'form="code"' in found["stages.0.blocks.0.conv1"]
    _, found = reasons(create("timm/inception_v4"), ChannelGating(form="paper", partitions=2), 107)
    assert "BatchNorm2d alone" in found["features.1.conv"]
    _, found = reasons(create("efficientnet_b0"), ChannelGating(), 64)
    assert "one position" in found["features.2.0.block.2.fc1"]


class Odd(nn.Module):
    """Convolutions that cannot be computed in part."""

    def __init__(self):
        super().__init__()
        self.stem, self.narrow, self.shared = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(8, 8, 1)
        self.own = OwnConv(8, 8, 1)
        self.normed = parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding="same", padding_mode="reflect"))

    def forward(self, x):
        x = self.shared(self.shared(self.stem(x * 2)))
        return self.narrow(self.normed(self.own(x)))


class OwnConv(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


def test_convolutions_with_ways_of_their_own(random_decisions):
    torch.manual_seed(0)
    model = Odd()
    planned, found = reasons(model, ChannelGating(), 8)
    assert [site.name for site in planned.sites] == ["normed"]
    assert "images" in found["stem"]
    assert "6 output channels" in found["narrow"]
    assert "called 2 times" in found["shared"]
    assert "OwnConv" in found["own"]
    assert "narrow" in {s.name for s in plan(model, ChannelGating(groups=False), torch.zeros(1, 3, 8, 8)).sites}
    # A bias is part of both paths, and padding is the convolution's own.
    x = torch.randn(2, 3, 8, 8)
    net = gate(model, ChannelGating(groups=False), x)
    seen = {}
    for name in ("normed", "narrow"):
        net.get_submodule(name).register_forward_hook(
            lambda m, args, y, name=name: seen.__setitem__(name, (args[0], y))
        )
    with torch.no_grad():
        y = net.replay(x, net.closed_decisions(2))
        into, _ = seen["narrow"]
        expected = torch.einsum("oi,nihw->nohw", model.narrow.weight[:, :2, 0, 0], into[:, :2])
        torch.testing.assert_close(y, expected + model.narrow.bias[:, None, None])


def test_nothing_to_gate_is_an_error_that_shows_the_plan():
    with pytest.raises(PlanError, match="nothing to gate"):
        gate(nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 1)), ChannelGating(), torch.zeros(1, 3, 16, 16))
    with pytest.raises(PlanError, match="nothing to gate"):
        gate(create("cifar_vgg16"), ChannelGating(convs="first"), torch.zeros(1, 3, 32, 32))
