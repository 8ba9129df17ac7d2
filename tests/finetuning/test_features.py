"""Features are compared where gated and dense network mean the same by them."""

import pytest
import torch
import torchvision

from convgate import DualGating, gate
from convgate.finetuning.features import Features, comparable_layers, distance
from convgate.models import create


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, 32, 32)


@pytest.mark.parametrize("name", ["cifar_resnet8", "mobilenet_v2"])
def test_what_a_gate_masks_is_not_compared(name, images):
    model = create(name, width=4) if name == "cifar_resnet8" else torchvision.models.mobilenet_v2(width_mult=0.25)
    net = gate(model, DualGating(masks="equal", where="everywhere"), images[:1]).eval()
    dense = net.dense().eval()
    layers = comparable_layers(net)
    assert layers
    features = Features(net, dense, images)
    assert set(features.layers) <= set(layers)
    features.layers = layers
    decisions = net.open_decisions(2)
    first = next(iter(decisions))
    closed = decisions.map(lambda name, d: type(d)(d.kind, torch.zeros_like(d.mask)) if name == first else d)
    site = next(site for site in net.plan.sites if first in {spec.name for spec in site.gates})
    masked = {mask.node for mask in site.masks}
    graph = net.graphs[False]
    for node in graph.nodes:
        if node.op == "call_module" and node.target in layers:
            assert not masked & {source.name for source in node.all_input_nodes}
    with torch.no_grad(), features.of(dense) as theirs:
        dense(images)
    with torch.no_grad(), features.of(net) as ours:
        net(images, given=decisions)
    assert distance(ours, theirs) == pytest.approx(0, abs=1e-9)
    with torch.no_grad(), features.of(net) as ours:
        net(images, given=closed)
    assert distance(ours, theirs) > 1e-6
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_stages_and_the_classifiers_input_are_compared(images):
    net = gate(create("cifar_resnet8", width=4), DualGating(masks="equal"), images[:1]).eval()
    layers = Features(net, net.dense().eval(), images).layers
    assert layers == ["layer2.0.downsample.0", "layer3.0.downsample.0", "fc"]


def test_the_distance_is_relative():
    theirs = [torch.randn(2, 3, 4, 4), 100 * torch.randn(2, 5)]
    assert distance([torch.zeros_like(t) for t in theirs], theirs) == pytest.approx(1.0)
