"""Networks compiled: the same outputs, decisions and MACs as the masked network, for every kind of model that we name.

Deep models that repeat their blocks are here as shallow ones of the same blocks.
"""

import itertools

import numpy as np
import pytest
import timm
import torch
import torchvision
from tests.small_backbones import SMALL
from torch import nn

import convgate
from convgate.cost import count_macs
from convgate.engine.runtime import instruction_sets
from convgate.errors import InputError, LoweringError
from convgate.gated.method import Method
from convgate.models import create

MODELS = {
    "resnet18": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_large": 64,
    "efficientnet_b0": 64,
    "regnet_y_400mf": 64,
    "densenet121": 64,
    "vgg16_bn": 40,
    "googlenet": 65,
    "shufflenet_v2_x0_5": 64,
    "timm/resnet18d": 64,
    "timm/resnetv2_50": 64,
    "timm/inception_v4": 107,
    "timm/mobilenetv3_large_100": 64,
    "timm/res2net50d": 64,
    "timm/dla34": 64,
    "cifar_resnet20": 32,
    "cifar_resnet8:A": 33,
    **dict.fromkeys(SMALL, 32),
}


def build(name: str) -> nn.Module:
    if name in SMALL:
        model = SMALL[name]()
    elif name.startswith("timm/"):
        model = timm.create_model(name.removeprefix("timm/"))
    elif name.startswith("cifar"):
        backbone, _, shortcut = name.partition(":")
        model = create(backbone, **({"shortcut": shortcut} if shortcut else {}))
    else:
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        model = torchvision.models.get_model(name, **options)
    # Statistics of their own, or folding a norm wrongly would not show.
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if getattr(module, "running_var", None) is not None:
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
    return model.eval()


def difference(a: np.ndarray, b: torch.Tensor) -> float:
    return float(np.abs(a - b.numpy()).max() / b.abs().max())


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_engine_equals_the_masked_network(name: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, MODELS[name], MODELS[name])
    network = convgate.gate(build(name), convgate.DualGating(), example=images[:1]).eval()
    for _, gate in network.gate_modules():
        gate.offset.normal_(-2, 1)
    engine = convgate.compile(network, threads=2)
    output, decisions = network.decide(images)
    own = engine.run(images)
    close = [float(d.logits.abs().min()) for d in decisions.values()]
    for gate, decision in decisions.items():
        logits = own.decisions[gate].logits
        assert logits is not None
        # A deep DenseNet's features grow to 1e5 here; sums of such that cancel are exact to a share of their summands.
        scale = max(1.0, 1e-2 * float(decision.logits.abs().max()))
        np.testing.assert_allclose(logits, decision.logits.numpy(), rtol=1e-3, atol=1e-3 * scale)
        if min(close) > 1e-3:  # else a rounding could turn a decision over, and all that follows
            assert (own.decisions[gate].mask == decision.mask.numpy()).all()
    given = engine.run(images, given={gate: decision.mask for gate, decision in decisions.items()})
    assert difference(given.outputs[0], output) < 1e-4
    cost = network.cost(decisions)
    assert given.macs.tolist() == cost.macs.tolist()
    for layer, macs in given.by_layer.items():
        assert macs.tolist() == cost.by_layer[layer].tolist(), layer


PARTIAL = {
    "each output": convgate.ChannelGating(),
    "first chunk, 8 outputs": convgate.ChannelGating(groups=False, group=8),
    "two norms, 16 outputs": convgate.ChannelGating(form="paper", group=16),
    "shuffled, 64 outputs": convgate.ChannelGating(shuffle=True, group=64),
}


def in_part(name: str, method: convgate.ChannelGating, images: torch.Tensor) -> convgate.GatedNetwork:
    """A network some of whose sums are completed: base paths normalised by what they are for these images."""
    network = convgate.gate(build(name), method, example=images[:1]).eval()
    heads = [gate.head.norm for _, gate in network.gate_modules()]
    for norm in heads:
        norm.train().momentum = 1.0
    network(images)
    for norm in heads:
        norm.eval()
    for _, gate in network.gate_modules():
        gate.offset.normal_(-0.5, 0.5)
    return network


# Every form on plain and on depthwise convolutions, and every model in one form.
IN_PART = [*itertools.product(["cifar_resnet20", "mobilenet_v2"], PARTIAL)]
IN_PART += [("resnet18", "shuffled, 64 outputs"), ("resnet50", "two norms, 16 outputs"), ("densenet121", "each output")]


@pytest.mark.parametrize(("name", "method"), IN_PART)
@torch.no_grad()
def test_convolutions_in_part(name: str, method: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, MODELS[name], MODELS[name])
    network = in_part(name, PARTIAL[method], images)
    engine = convgate.compile(network, threads=2)
    output, decisions = network.decide(images)
    # Among so many logits one may be so close to zero that rounding turns it over, and some of what follows.
    own = engine.run(images)
    differ = sum(int((own.decisions[gate].mask != d.mask.numpy()).sum()) for gate, d in decisions.items())
    assert differ <= 1e-3 * sum(d.mask.numel() for d in decisions.values())
    given = engine.run(images, given={gate: decision.mask for gate, decision in decisions.items()})
    assert difference(given.outputs[0], output) < 1e-4
    cost = network.cost(decisions)
    for layer, macs in given.by_layer.items():
        assert macs.tolist() == cost.by_layer[layer].tolist(), layer


@pytest.fixture(scope="module")
def partial_networks() -> tuple[torch.Tensor, list[convgate.GatedNetwork]]:
    """Images, and a small network in every form."""
    torch.manual_seed(0)
    images = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        return images, [in_part("cifar_resnet8", method, images) for method in PARTIAL.values()]


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@torch.no_grad()
def test_convolutions_in_part_on_every_instruction_set(isa: str, threads: int, partial_networks) -> None:
    images, networks = partial_networks
    for network in networks:
        engine = convgate.compile(network, threads=threads, isa=isa)
        for batch in (images[:1], images):
            output, decisions = network.decide(batch)
            run = engine.run(batch)
            for gate, decision in decisions.items():
                assert (run.decisions[gate].mask == decision.mask.numpy()).all(), gate
                np.testing.assert_allclose(run.decisions[gate].logits, decision.logits.numpy(), atol=1e-4)
            assert difference(run.outputs[0], output) < 1e-5
            assert run.macs.tolist() == network.cost(decisions).macs.tolist()


@pytest.mark.parametrize("method", [convgate.DualGating(), convgate.ChannelGating()], ids=["dual", "partial"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "cifar_resnet20"])
@pytest.mark.parametrize("openness", ["open", "closed"])
@torch.no_grad()
def test_all_open_and_all_closed(name: str, openness: str, method: Method) -> None:
    images = torch.randn(1, 3, MODELS[name], MODELS[name])
    network = convgate.gate(build(name), method, example=images).eval()
    decisions = network.open_decisions(1) if openness == "open" else network.closed_decisions(1)
    run = convgate.compile(network).run(images, given={gate: d.mask for gate, d in decisions.items()})
    assert difference(run.outputs[0], network.replay(images, decisions)) < 1e-4
    assert run.macs.tolist() == network.cost(decisions).macs.tolist()


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_large", "timm/resnetv2_50"])
@torch.no_grad()
def test_ungated_networks_compile_too(name: str) -> None:
    images = torch.randn(3, 3, MODELS[name], MODELS[name])
    model = build(name)
    engine = convgate.compile(model, images)
    assert difference(engine(images.numpy()), model(images)) < 1e-4
    dense = sum(engine.run(images).by_layer.values())
    assert dense.tolist() == [count_macs(model, tuple(images.shape[1:]))] * 3


class Strange(nn.Module):
    """Has what the engine has no form for, before, between and after gated convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.third = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        y = torch.cosh(torch.relu(self.second(x)))
        return self.last(torch.erf(x + self.third(y)).mean((2, 3)))


def test_operations_without_a_native_form_are_all_named() -> None:
    with pytest.raises(LoweringError, match=r"2 node.*fallback=\"torch\"(?s:.*)cosh(?s:.*)erf"):
        convgate.compile(Strange().eval(), torch.zeros(1, 3, 16, 16))


@torch.no_grad()
def test_fallback_runs_them_in_pytorch(tmp_path) -> None:
    images = torch.randn(2, 3, 16, 16)
    model = Strange().eval()
    engine = convgate.compile(model, images, fallback="torch")
    assert difference(engine(images.numpy()), model(images)) < 1e-5
    network = convgate.gate(model, convgate.DualGating(), example=images).eval()
    for _, gate in network.gate_modules():
        gate.offset.normal_(-2, 1)
    engine = convgate.compile(network, fallback="torch")
    output, decisions = network.decide(images)
    run = engine.run(images)
    assert difference(run.outputs[0], output) < 1e-5
    assert run.macs.tolist() == network.cost(decisions).macs.tolist()
    assert set(engine.profile(images)) == {op.output for op in engine.program.operations}
    with pytest.raises(convgate.ConvgateError, match="cannot be saved"):
        engine.save(tmp_path / "model.cgm")
    assert not (tmp_path / "model.cgm").exists()


def test_what_was_overwritten_in_place_is_read_overwritten() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            z = self.relu(y)
            z = self.conv(z)
            z += y  # y went through the relu, too
            return z

    images = torch.randn(1, 3, 8, 8)
    model = InPlace().eval()
    with torch.no_grad():
        assert difference(convgate.compile(model, images)(images.numpy()), model(images)) < 1e-5


def test_wrong_arguments() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    with pytest.raises(InputError, match="takes an example"):
        convgate.compile(model)
    with pytest.raises(InputError, match="fallback='numpy'"):
        convgate.compile(model, torch.zeros(1, 3, 8, 8), fallback="numpy")
    with pytest.raises(InputError, match="instruction set 'mmx': this machine has"):
        convgate.compile(model, torch.zeros(1, 3, 8, 8), isa="mmx")
    with pytest.raises(InputError, match="threads=0"):
        convgate.compile(model, torch.zeros(1, 3, 8, 8), threads=0)
    with pytest.raises(InputError, match="is a str"):
        convgate.compile("resnet18")  # type: ignore[arg-type]
