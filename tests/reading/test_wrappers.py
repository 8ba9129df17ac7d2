"""Wrappers around a model are taken off, if they compute what it does."""

import logging

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import convgate
from convgate.errors import TraceError
from convgate.models import create
from convgate.reading.wrappers import unwrapped

X = torch.randn(2, 3, 16, 16)


@pytest.fixture(scope="module", autouse=True)
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


WRAPPERS = {
    "parallel": nn.DataParallel,
    "distributed": DistributedDataParallel,
    "compiled": torch.compile,
    "compiled, then distributed": lambda model: DistributedDataParallel(torch.compile(model)),
    "distributed, then compiled": lambda model: torch.compile(DistributedDataParallel(model)),
}


@pytest.mark.parametrize("how", WRAPPERS)
def test_a_wrapper_is_taken_off_and_logged(how, caplog):
    model = create("cifar_resnet8").eval()
    wrapped = WRAPPERS[how](model)
    method = convgate.DualGating()
    with caplog.at_level(logging.INFO, "convgate"):
        plan = convgate.plan(wrapped, method, X)
    assert "CifarResNet inside" in caplog.text
    assert plan == convgate.plan(model, method, X)
    net = convgate.gate(wrapped, method, X)
    added = net.state_dict().keys() - model.state_dict().keys()
    assert net.state_dict().keys() > model.state_dict().keys()
    assert not any("module" in key or "_orig_mod" in key for key in added)
    assert unwrapped(wrapped) is model


@pytest.mark.parametrize("how", ["parallel", "distributed", "compiled"])
@torch.no_grad()
def test_a_wrapper_within_the_model_is_read_through(how):
    model = create("cifar_resnet8").eval()
    plain = convgate.plan(model, convgate.DualGating(), X)
    model.layer2 = WRAPPERS[how](model.layer2)
    net = convgate.gate(model, convgate.DualGating(), X).eval()
    assert len(net.plan.gates) == len(plain.gates)
    assert net.state_dict().keys() > model.state_dict().keys()
    model.layer2 = unwrapped(model.layer2)
    torch.testing.assert_close(net.replay(X, net.open_decisions(2)), model(X))


def test_a_hook_on_a_wrapper_within_the_model_is_refused():
    model = create("cifar_resnet8")
    model.layer2 = nn.DataParallel(model.layer2)
    model.layer2.register_forward_hook(lambda *_: None)
    with pytest.raises(TraceError, match="'layer2' has 1 hook"):
        convgate.gate(model, convgate.DualGating(), X)


def test_engines_take_wrapped_networks():
    model = create("cifar_resnet8").eval()
    net = convgate.gate(model, convgate.DualGating(), X).eval()
    for network, example in ((net, None), (model, X)):
        engine = convgate.compile(nn.DataParallel(network), example, threads=1)
        with torch.no_grad():
            torch.testing.assert_close(torch.as_tensor(engine(X.numpy())), network(X), rtol=1e-3, atol=1e-4)


def test_wrapped_networks_are_calibrated_and_saved(tmp_path):
    torch.manual_seed(0)
    net = convgate.gate(create("cifar_resnet8").eval(), convgate.DualGating(init="paper"), X).eval()
    found = convgate.calibrate(nn.DataParallel(net), [X], 0.6, tolerance=0.05, agreement=False)
    assert found.reached == pytest.approx(0.6, rel=0.05)
    convgate.save(nn.DataParallel(net), tmp_path / "net.safetensors")
    again = convgate.load(tmp_path / "net.safetensors")
    with torch.no_grad():
        assert torch.equal(again(X), net(X))


def test_a_wrapped_gated_network_is_gated_already():
    net = convgate.gate(create("cifar_resnet8"), convgate.DualGating(), X)
    with pytest.raises(convgate.ConvgateError, match="gated already"):
        convgate.gate(nn.DataParallel(net), convgate.DualGating(), X)


@pytest.mark.parametrize("how", ["parallel", "distributed", "compiled"])
def test_hooks_of_a_wrapper_are_not_lost(how):
    wrapped = WRAPPERS[how](create("cifar_resnet8"))
    wrapped.register_forward_hook(lambda module, inputs, output: 2 * output)
    with pytest.raises(TraceError, match="1 hook"):
        convgate.gate(wrapped, convgate.DualGating(), X)
