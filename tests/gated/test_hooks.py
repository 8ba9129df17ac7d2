"""Hooks on blocks of a gated network are called, as on those of an ordinary one."""

import copy

import pytest
import torch
from torch import nn

import convgate
from convgate import ChannelGating, DualGating, LayerSkipping, gate
from convgate.errors import ConvgateError, InputError
from convgate.models import create

METHODS = [DualGating(), LayerSkipping(), ChannelGating()]


@pytest.fixture(params=METHODS, ids=lambda m: type(m).__name__)
def pair(request, randomise):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=4), x)
    return model, gate(model, request.param, x), x


def opened(net, x):
    return net.replay(x, net.open_decisions(len(x), tuple(x.shape[2:])))


@pytest.mark.parametrize("name", ["layer1", "layer2.0", "layer3", "layer3.0.conv1"])
def test_forward_hooks_see_what_they_see_on_the_model(name, pair):
    model, net, x = pair
    seen = {}
    for which, module in (("model", model), ("net", net)):
        module.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, which=which: seen.__setitem__(which, (*inputs, output))
        )
    with torch.no_grad():
        torch.testing.assert_close(opened(net, x), model(x))
    assert len(seen["net"]) == len(seen["model"]) == 2
    for ours, theirs in zip(seen["net"], seen["model"], strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["layer1", "layer2.0"])
@torch.no_grad()
def test_hooks_may_change_inputs_and_outputs_and_can_be_removed(name, pair):
    model, net, x = pair
    before = opened(net, x)
    handles = []
    for module in (model, net):
        block = module.get_submodule(name)
        handles.append(block.register_forward_hook(lambda *_: _[-1] * 0.5))
        handles.append(block.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 0.1,)))
        handles.append(block.register_forward_hook(lambda m, i, k, y: y + 0.1, with_kwargs=True))
        handles.append(block.register_forward_pre_hook(lambda m, i, k: ((i[0] * 1.5,), k), with_kwargs=True))
    changed = opened(net, x)
    torch.testing.assert_close(changed, model(x))
    assert not torch.allclose(changed, before)
    torch.testing.assert_close(opened(copy.deepcopy(net), x), changed)
    for handle in handles:
        handle.remove()
    assert torch.equal(opened(net, x), before)


def test_backward_hooks_see_the_gradients_of_the_model(pair):
    """What Grad-CAM is made of."""
    model, net, x = pair
    seen = {}
    for which, module in (("model", model), ("net", net)):
        module.layer2.register_full_backward_hook(lambda _, i, o, which=which: seen.__setitem__(which, (*i, *o)))
        y = module(x) if which == "model" else opened(module, x)
        y[:, 3].sum().backward()
    for ours, theirs in zip(seen["net"], seen["model"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_hooks_that_the_model_has_are_kept(randomise):
    x = torch.randn(2, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=4), x)
    model.layer2.register_forward_hook(lambda _, __, output: output * 2)
    net = gate(model, DualGating(), x)
    with torch.no_grad():
        torch.testing.assert_close(opened(net, x), model(x))
        torch.testing.assert_close(opened(net, x[..., :12]), model(x[..., :12]))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return y, y.relu()


def test_a_block_of_several_outputs_is_refused():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.two = nn.Conv2d(3, 4, 3, padding=1), Two()
            self.block = create("cifar_resnet8", width=4).layer1

        def forward(self, x):
            a, b = self.two(self.stem(x))
            return self.block(a + b).mean((2, 3))

    x = torch.randn(2, 3, 8, 8)
    net = gate(Model().eval(), DualGating(), x)
    net.two.register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="'two' has hooks and returns 2 tensors"):
        net(x)


def test_compiled_networks_refuse_hooks_on_blocks(small):
    net, x = small
    net.layer1.register_forward_hook(lambda *_: None)
    with pytest.raises(ConvgateError, match="'layer1'"):
        convgate.compile(net, threads=1)
    torch.compiler.reset()
    with pytest.raises(Exception, match="'layer1'"):
        torch.compile(net, backend="eager", fullgraph=True)(x)
    torch.compiler.reset()
