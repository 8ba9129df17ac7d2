"""Gates start whole: right after `gate`, the network computes what it computed, and every gate can learn from there."""

import pytest
import torch

from convgate import gate
from convgate.methods import METHODS
from convgate.methods import create as create_method
from convgate.models import create

WITH_INIT = [name for name in METHODS if "init" in METHODS[name].__dataclass_fields__]


def started(randomise, method, n=8):
    torch.manual_seed(0)
    images = torch.randn(n, 3, 16, 16)
    model = randomise(create("cifar_resnet8", width=8), images)
    return model, gate(model, method, images[:1]), images


@pytest.mark.parametrize("name", list(METHODS))
def test_in_evaluation_it_is_the_model(name, randomise):
    model, net, images = started(randomise, create_method(name))
    with torch.no_grad():
        output, decisions = net.eval().decide(images)
        torch.testing.assert_close(output, model(images))
    assert all(bool((d.mask == 1).all()) for d in decisions.values())


@pytest.mark.parametrize("name", list(METHODS))
def test_in_training_sampling_closes_hardly_anything(name, randomise):
    _, net, images = started(randomise, create_method(name), n=64)
    with torch.no_grad():
        _, decisions = net.train().decide(images)
    assert all(d.density.mean() > 0.98 for d in decisions.values())


@pytest.mark.parametrize("name", list(METHODS))
def test_every_parameter_of_the_gates_can_learn(name, randomise):
    _, net, images = started(randomise, create_method(name), n=64)
    _, decisions = net.train().decide(images)
    torch.cat([d.mask.flatten() for d in decisions.values()]).sum().backward()
    trained = [p for _, g in net.gate_modules() for p in g.parameters()]
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in trained)


@pytest.mark.parametrize("name", WITH_INIT)
def test_the_papers_initialisation_is_there_by_name(name, randomise):
    _, net, images = started(randomise, create_method(name, {"init": "paper"}), n=64)
    with torch.no_grad():
        _, decisions = net.train().decide(images)
    assert min(d.density.mean().item() for d in decisions.values()) < 0.95


def test_features_of_any_size_leave_it_whole(randomise):
    """A head's logits must not leave the bias because a network's features are a hundred times as large."""
    model, net, images = started(randomise, create_method("DualGating"))
    with torch.no_grad():
        output, decisions = net.eval().decide(images * 100)
        torch.testing.assert_close(output, model(images * 100))
    assert all(bool((d.mask == 1).all()) for d in decisions.values())


def test_partial_sums_of_any_size_are_completed_at_first(randomise):
    """Those of MobileNetV2 and EfficientNet-Lite0 reach tens, far below a threshold of -4 for deviations of 1."""
    _, net, images = started(randomise, create_method("ChannelGating"))
    with torch.no_grad():
        _, decisions = net.eval().decide(images * 10)
    assert all(bool((d.mask == 1).all()) for d in decisions.values())
