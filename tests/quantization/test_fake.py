"""Networks that round while they train compute what their integers will, learn from it, and are left as they were."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convgate
from convgate.engine.integer import IntegerNetwork
from convgate.engine.program import IntegerComplete, IntegerConv, IntegerConvToFloat
from convgate.errors import InputError
from convgate.gating import base_path
from convgate.models import create
from convgate.quantization import FakeQuantization, MinMax, fake_quantized
from convgate.quantization.straight_through import rounded_weight

IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Chain(nn.Module):
    """Convolutions with norms, one of them depthwise, and a linear layer that reads a map."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, 2, 1, groups=8),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 12, 4, bias=False),
            nn.BatchNorm2d(12),
        )
        self.last = nn.Linear(12, 5)

    def forward(self, x):
        return self.last(self.body(x).flatten(1))


@pytest.fixture
def chain(randomise):
    torch.manual_seed(0)
    return randomise(Chain(), IMAGES)


def layers_left(network):
    """What hooks and attributes there are on the modules of a network."""
    return [
        (len(m._forward_pre_hooks), len(m._forward_hooks), len(m._forward_hooks_always_called), sorted(vars(m)))
        for m in network.modules()
    ]


def with_scales_of(engine, fake):
    """Give `fake` the ranges that an engine of integers has."""
    kinds = IntegerConv | IntegerConvToFloat | IntegerComplete
    ops = {op.layer: op for op in engine.program.operations if isinstance(op, kinds)}
    for index, layer in enumerate(fake.layers):
        value = engine.program.value(ops[layer].inputs[0])
        fake.limits[index] = value.scale * value.element.limits[1]
    fake.set_extra_state({"calls": [1] * len(fake.layers)})


def distance(a, b):
    return float((a - b).square().mean().sqrt())


def test_the_forward_pass_is_that_of_the_integers(chain):
    engine = convgate.quantize(chain, [IMAGES], threads=1)
    run = IntegerNetwork(engine.program, 1, engine.isa).run([IMAGES.numpy()], {})
    integers = torch.from_numpy(run.outputs[0]).flatten(1)
    with torch.no_grad(), fake_quantized(chain, IMAGES) as fake:
        with_scales_of(engine, fake)
        found = chain(IMAGES)
    with torch.no_grad():
        floats = chain(IMAGES)
    # What is left is a map's element that falls on the other side of a half, and what follows from it.
    assert distance(found, integers) < 0.2 * distance(floats, integers)
    assert torch.isclose(found, integers, atol=1e-5).float().mean() > 0.2


def test_a_residual_network_is_close_to_its_integers(randomise):
    """Shortcuts and the means before the last layer are not rounded in training."""
    torch.manual_seed(0)
    network = randomise(create("cifar_resnet8", width=8), IMAGES)
    engine = convgate.quantize(network, [IMAGES], threads=1)
    integers = torch.from_numpy(engine(IMAGES.numpy()))
    with torch.no_grad(), fake_quantized(network, IMAGES) as fake:
        with_scales_of(engine, fake)
        found = network(IMAGES)
    with torch.no_grad():
        assert distance(found, integers) < 0.75 * distance(network(IMAGES), integers)


def test_convolutions_that_are_computed_in_part_are_close_to_their_integers(randomise, scatter):
    torch.manual_seed(1)
    model = randomise(create("cifar_resnet8", width=8), IMAGES, 1)
    network = scatter(convgate.gate(model, convgate.ChannelGating(), IMAGES).eval(), 1)
    engine = convgate.quantize(network, [IMAGES], threads=1)
    run = engine.run(IMAGES.numpy())
    integers, masks = torch.from_numpy(run.outputs[0]), {name: one.mask for name, one in run.decisions.items()}
    assert 0.05 < np.mean([mask.mean() for mask in masks.values()]) < 0.95
    fake = FakeQuantization(network)
    with_scales_of(engine, fake)
    with torch.no_grad():
        floats = network.replay(IMAGES, masks)
        with fake.attached(network):
            assert distance(network.replay(IMAGES, masks), integers) < 0.75 * distance(floats, integers)


@pytest.mark.parametrize("training", [False, True])
def test_base_paths_decide_on_sums_of_what_is_rounded(training):
    torch.manual_seed(0)
    network = convgate.gate(create("cifar_resnet8", width=8), convgate.ChannelGating(), IMAGES).train(training)
    fake = FakeQuantization(network)
    fake.limits.fill_(2.0)
    fake.set_extra_state({"calls": [8] * len(fake.layers)})
    index = fake.layers.index("layer1.0.conv1")
    conv, x = network.layer1[0].conv1, torch.rand(2, 8, 5, 5)
    rounds = copy.deepcopy(conv)
    with torch.no_grad():
        rounds.weight.copy_(rounded_weight(conv.weight))
        expected = base_path(fake.read(index, x, learns=False), rounds, 4, grouped=True, shuffled=False)
        before = base_path(x, conv, 4, grouped=True, shuffled=False)
        with fake.attached(network):
            assert torch.equal(base_path(x, conv, 4, grouped=True, shuffled=False), expected)
            assert torch.equal(base_path(x, copy.deepcopy(conv), 4, grouped=True, shuffled=False), before)
        assert torch.equal(base_path(x, conv, 4, grouped=True, shuffled=False), before)
    assert not torch.equal(before, expected)


@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
def test_nothing_is_left_behind(chain, gated):
    network = convgate.gate(create("cifar_resnet8", width=4).eval(), convgate.DualGating(), IMAGES) if gated else chain
    network.eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    left = layers_left(network)
    with torch.no_grad():
        before = network(IMAGES)
    fake = FakeQuantization(network, IMAGES)
    with fake.attached(network.train()):
        assert network.state_dict().keys() == state.keys()
        network(IMAGES)
        assert network.state_dict().keys() == state.keys()
        assert {name for name, _ in network.named_parameters()} <= state.keys()
    assert layers_left(network) == left
    network.load_state_dict(state)  # of the norms' statistics
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(IMAGES), before)
        with fake.attached(network):
            assert not torch.equal(network(IMAGES), before)
        assert torch.equal(network(IMAGES), before)


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_behind_by_exceptions(chain, kind):
    left, layer = layers_left(chain), chain.body[3]

    def fails(*_):
        raise kind("broken off")

    fake = FakeQuantization(chain, IMAGES)
    layer._conv_forward = fails
    with pytest.raises(kind, match="broken off"), fake.attached(chain):
        chain.train()(IMAGES)
    del layer._conv_forward
    assert layers_left(chain.eval()) == left
    with pytest.raises(ValueError, match="of the block"), fake_quantized(chain, IMAGES):
        raise ValueError("of the block")
    assert layers_left(chain) == left


def test_a_failed_call_leaves_the_weights_of_its_layer_while_the_block_goes_on(chain):
    with fake_quantized(chain, IMAGES):
        chain.body[0].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            chain.train()(IMAGES)
        assert chain.body[0].weight is chain.body[0]._parameters["weight"]


def test_copies_and_pickles_do_not_round(chain):
    with torch.no_grad(), fake_quantized(chain, IMAGES) as fake:
        chain.train()(IMAGES)
        chain.eval()
        others = copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))
        found = [other(IMAGES) for other in others]
        rounds, limits = chain(IMAGES), fake.limits.clone()
        for other in others:
            other.train()(9 * IMAGES)
        assert torch.equal(fake.limits, limits)
    with torch.no_grad():
        floats = chain(IMAGES)
    assert not torch.equal(floats, rounds)
    assert all(torch.equal(one, floats) for one in found)


def test_ranges_follow_training_and_stay_in_evaluation(chain):
    fake = FakeQuantization(chain, IMAGES, observer=MinMax())
    with torch.no_grad(), fake.attached(chain):
        floats = chain(IMAGES)
        assert fake.limits.eq(0).all()  # in evaluation nothing is looked at, and nothing rounded without a range
        chain.train()
        chain(IMAGES)
        assert float(fake.limits[0]) == float(IMAGES.abs().max())
        chain(3 * IMAGES)
        assert float(fake.limits[0]) == pytest.approx(2 * float(IMAGES.abs().max()))  # the mean of the first batches
        limits = fake.limits.clone()
        chain.eval()
        chain(9 * IMAGES)
        assert torch.equal(fake.limits, limits)
        assert not torch.equal(chain(IMAGES), floats)


def test_ranges_that_are_loaded_go_on_as_they_would_have(chain):
    a, b = FakeQuantization(chain, IMAGES), FakeQuantization(chain, IMAGES)
    chain.train()

    def see(fake, batches):
        with torch.no_grad(), fake.attached(chain):
            for n in batches:
                chain((1 + n) * IMAGES)

    see(a, range(20))
    see(b, range(11))
    c = FakeQuantization(chain, IMAGES)
    c.load_state_dict(b.state_dict())
    see(c, range(11, 20))
    assert torch.equal(a.limits, c.limits)
    see(b, range(3))
    assert not torch.equal(a.limits, b.limits)


def test_maps_that_share_a_scale_are_rounded_by_the_largest_range():
    torch.manual_seed(0)
    network = create("cifar_resnet8", width=4).train()
    fake = FakeQuantization(network, IMAGES)
    first, second = fake.layers.index("layer1.0.conv1"), fake.layers.index("layer2.0.conv1")
    fake.limits[first], fake.limits[second] = 1.0, 2.0
    fake.set_extra_state({"calls": [1] * len(fake.layers)})
    x = torch.linspace(0, 3, 50)
    for index in (first, second):
        assert float(fake.read(index, x, learns=False).max()) == pytest.approx(2.0)


def test_a_layer_behind_a_map_of_zeros_reads_floats_until_it_sees_others(chain):
    fake = FakeQuantization(chain, IMAGES)
    with torch.no_grad(), fake.attached(chain.train()):
        chain(0 * IMAGES)
        assert float(fake.limits[0]) == 0
        chain(IMAGES)
        assert float(fake.limits[0]) > 0


def test_under_autocast(chain):
    with fake_quantized(chain, IMAGES) as fake, torch.autocast("cpu", torch.bfloat16):
        chain.train()(IMAGES).float().sum().backward()
    assert fake.limits.gt(0).all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in chain.parameters())


def _unequal():
    """(a network whose channels differ in range by orders of magnitude, images, what it is to answer).

    The answer is a sum over channels that are far smaller than the first, which the range follows.
    """
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1))
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.weight[1:] *= 0.1
            layer.bias[1:] *= 0.1
        network[2].weight[:, 1:] *= 10
        network[4].weight[:, 1:] *= 10
    images = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network, images, network(images)


def test_training_with_rounding_mends_what_calibration_cannot():
    def trained(steps, *, rounding):
        network, images, answers = _unequal()
        fake = FakeQuantization(network, images, levels=7)
        optimiser = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
        for _ in range(steps):
            if rounding:
                with fake.attached(network):
                    found = network(images)
            else:
                found = network(images)
            optimiser.zero_grad()
            F.mse_loss(found, answers).backward()
            optimiser.step()
        calibrated = FakeQuantization(network, images, levels=7)
        with torch.no_grad(), calibrated.attached(network):
            network.train()(images)
            return float(F.mse_loss(network.eval()(images), answers) / answers.var())

    before, without, after = trained(0, rounding=False), trained(200, rounding=False), trained(200, rounding=True)
    assert before > 0.01
    assert without == pytest.approx(before)  # floats have nothing to learn
    assert after < 0.4 * before


def test_what_cannot_be_done_is_said(chain):
    with pytest.raises(InputError, match="levels=0"):
        FakeQuantization(chain, IMAGES, levels=0)
    with pytest.raises(InputError, match="example"):
        FakeQuantization(chain)
    with pytest.raises(InputError, match="nothing to quantise"):
        FakeQuantization(chain, IMAGES, keep=["body", "last"])
    fake = FakeQuantization(chain, IMAGES)
    with fake.attached(chain), pytest.raises(InputError, match="already"), fake.attached(chain):
        pass
    with pytest.raises(InputError, match=r"no layer 'body\.0'"), fake.attached(nn.Sequential(nn.Conv2d(3, 3, 1))):
        pass
    compiled = copy.deepcopy(chain)
    compiled.compile()
    with pytest.raises(InputError, match="compiled"), fake.attached(compiled):
        pass
    computed = copy.deepcopy(chain)
    torch.nn.utils.parametrizations.weight_norm(computed.last)
    left = layers_left(computed)
    with pytest.raises(InputError, match="computed from others"), fake.attached(computed):
        pass
    assert layers_left(computed) == left


def test_layers_called_by_keyword():
    class ByName(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(input=x)

    network = ByName()
    with torch.no_grad(), fake_quantized(network, IMAGES) as fake:
        rounds = network(IMAGES)
    assert fake.layers == ("conv",)
    assert not np.array_equal(rounds, network(IMAGES).detach())
