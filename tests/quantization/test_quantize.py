"""Quantised networks compute nearly what their networks do, and exactly what their programs say."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convgate
from convgate.engine.integer import uses_integers
from convgate.engine.program import (
    LARGE_HEAD,
    Conv,
    Dequantize,
    IntegerConv,
    IntegerConvToFloat,
    IntegerMean,
    Lookup,
    Quantize,
    serving_decisions,
)
from convgate.errors import InputError
from convgate.models import create
from convgate.quantization import MeanSquaredError, MinMax, Percentile

IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def distance(a, b):
    """Of two arrays, as a share of the second's root mean square."""
    return np.sqrt(((a - b) ** 2).mean() / (b**2).mean())


def kinds(engine):
    return [type(op) for op in engine.program.operations]


class Squeezing(nn.Module):
    """Activations that do not clamp, a depthwise convolution, squeeze-and-excitation, a concatenation."""

    def __init__(self):
        super().__init__()
        self.first, self.deep = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.down, self.up = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.last, self.fc = nn.Conv2d(24, 16, 3, stride=2), nn.Linear(16, 5)

    def forward(self, x):
        x = F.silu(self.first(x))
        y = F.hardswish(self.deep(x))
        y = y * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1)))))
        x = F.max_pool2d(torch.cat([F.gelu(x + y), y], 1), 3, 2, 1)
        return self.fc(F.relu6(self.last(x)).mean((2, 3)))


class Written(nn.Module):
    """Of each form of a sum: after an activation, of two convolutions, spread, and returned as a map."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1))

    def forward(self, x):
        y = F.leaky_relu(self.a(x) + self.b(x), 0.2)
        z = F.relu(self.c(y) + y)
        return z, self.c(F.avg_pool2d(z, 2))


def models():
    torch.manual_seed(0)
    return {
        "resnet": create("cifar_resnet8", width=8),
        "shortcut A": create("cifar_resnet8", width=8, shortcut="A"),
        "mobilenet": create("cifar_mobilenet", width=0.25)
        if "cifar_mobilenet" in convgate.list_models()
        else Written(),
        "squeezing": Squeezing(),
        "written": Written(),
    }


@pytest.mark.parametrize("name", models())
def test_close_to_the_network_and_the_same_from_a_file(name, tmp_path):
    model = models()[name].eval()
    engine = convgate.quantize(model, [IMAGES], threads=1)
    with torch.no_grad():
        expected = model(IMAGES)
    expected = expected if isinstance(expected, tuple) else (expected,)
    run = engine.run(IMAGES.numpy())
    for mine, theirs in zip(run.outputs, expected, strict=True):
        assert 0 < distance(mine, theirs.numpy()) < 0.05
    assert IntegerConv in kinds(engine)
    engine.save(tmp_path / "net.cgm")
    again = convgate.engine.load(tmp_path / "net.cgm", threads=1)
    assert again.program.values == engine.program.values
    assert again.program.operations == engine.program.operations
    for mine, theirs in zip(again.run(IMAGES.numpy()).outputs, run.outputs, strict=True):
        np.testing.assert_array_equal(mine, theirs)


METHODS = {
    "dual": convgate.DualGating(),
    "channels": convgate.BatchShaping(),
    "layers": convgate.LayerSkipping(),
    "partial": convgate.ChannelGating(),
}


@pytest.mark.parametrize("name", METHODS)
def test_gated_networks_for_given_masks(name):
    torch.manual_seed(0)
    network = convgate.gate(create("cifar_resnet8", width=8).eval(), METHODS[name], IMAGES).eval()
    engine, dense = convgate.quantize(network, [IMAGES], threads=1), convgate.compile(network, threads=1)
    rng = np.random.default_rng(0)
    images = IMAGES.numpy()
    for share in (0.0, 0.5, 1.0):
        masks = {g.name: rng.random((len(images), *g.shape)) < share for g in dense.program.gates}
        mine, theirs = engine.run(images, given=masks), dense.run(images, given=masks)
        assert distance(mine.outputs[0], theirs.outputs[0]) < 0.05
        for layer, macs in theirs.by_layer.items():
            np.testing.assert_array_equal(mine.by_layer[layer], macs, err_msg=layer)
    assert engine.run(images).decisions.keys() == dense.run(images).decisions.keys()
    assert engine.explain().native_share == 1


def test_what_is_closed_contributes_nothing():
    """Integers that closed channels hold make no difference: they hold zeros."""
    torch.manual_seed(0)
    network = convgate.gate(create("cifar_resnet8", width=8).eval(), convgate.DualGating(), IMAGES).eval()
    engine = convgate.quantize(network, [IMAGES], threads=1)
    closed = {g.name: np.zeros((len(IMAGES), *g.shape)) for g in engine.program.gates}
    run = engine.run(IMAGES.numpy(), given=closed)
    gated = {op.layer for op in engine.program.operations if isinstance(op, Conv) and (op.positions or op.out_channels)}
    assert gated
    assert all((run.by_layer[layer] == 0).all() for layer in gated)
    # With tied scales a shortcut goes through closed blocks as it is.
    adds = [op for op in engine.program.operations if isinstance(op, IntegerConv) and len(op.inputs) > 1]
    value = engine.program.value
    tied = [op for op in adds if value(op.inputs[1]).element == value(op.output).element]
    assert tied
    assert all(op.addend == (1 << 14, 14) for op in tied)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "partial"])
def test_heads_can_be_integers(name):
    """Logits of 8-bit heads are near those of float32's; given the masks, nothing else changes."""
    torch.manual_seed(0)
    network = convgate.gate(create("cifar_resnet8", width=8).eval(), METHODS[name], IMAGES).eval()
    for parameter in network.gates.parameters():  # heads start nearly at zero, so that all gates decide alike
        torch.nn.init.normal_(parameter, std=0.3)
    images = IMAGES.numpy()
    floats, integers = (convgate.quantize(network, [IMAGES], heads=heads, threads=1) for heads in (None, 0))
    serving = serving_decisions(integers.program)
    heads = [op for op in integers.program.operations if op.output in serving and hasattr(op, "weight")]
    assert heads
    assert all(isinstance(op, IntegerConv | IntegerConvToFloat) for op in heads)
    assert not any(isinstance(op, IntegerConv) and op.output in serving for op in floats.program.operations)
    a, b = floats.run(images), integers.run(images)
    for gate, decision in a.decisions.items():
        assert 0 < distance(b.decisions[gate].logits, decision.logits) < 0.2, gate
    masks = {gate: decision.mask for gate, decision in a.decisions.items()}
    np.testing.assert_array_equal(integers.run(images, given=masks).outputs[0], a.outputs[0])


def test_only_large_heads_are_integers_if_not_asked_for():
    torch.manual_seed(0)
    network = convgate.gate(create("cifar_resnet8", width=8).eval(), convgate.DualGating(), IMAGES).eval()
    floats = convgate.compile(network, threads=1).program
    sizes = {
        op.output: floats.arrays[op.weight].size for op in floats.operations if op.output in serving_decisions(floats)
        if isinstance(op, Conv)
    }  # fmt: skip

    def integers(**options):
        program = convgate.quantize(network, [IMAGES], threads=1, **options).program
        found = {op.output for op in program.operations if isinstance(op, IntegerConv | IntegerConvToFloat)}
        return found & sizes.keys()

    assert max(sizes.values()) < LARGE_HEAD
    assert integers() == set()
    least = sorted(sizes.values())[len(sizes) // 2]
    assert integers(heads=least) == {name for name, size in sizes.items() if size >= least} != sizes.keys()
    assert integers(heads=0) == sizes.keys()


def test_scales_of_residual_sums_can_be_their_own():
    model = create("cifar_resnet8", width=8).eval()
    engine = convgate.quantize(model, [IMAGES], tie=False, threads=1)
    adds = [op for op in engine.program.operations if isinstance(op, IntegerConv) and len(op.inputs) > 1]
    assert any(op.addend != (1 << 14, 14) for op in adds)


@pytest.mark.parametrize("observer", [MinMax(), Percentile(), MeanSquaredError()], ids=lambda o: type(o).__name__)
def test_every_observer(observer):
    model = create("cifar_resnet8", width=8).eval()
    engine = convgate.quantize(model, [IMAGES], observer=observer, threads=1)
    assert distance(engine(IMAGES.numpy()), model(IMAGES).detach().numpy()) < 0.05


def test_layers_can_be_kept():
    model = create("cifar_resnet8", width=8).eval()
    engine = convgate.quantize(model, [IMAGES], keep=["conv1", "layer2", "fc"], threads=1)
    by_layer = {op.layer: type(op) for op in engine.program.operations if isinstance(op, Conv)}
    kept = {layer for layer, kind in by_layer.items() if kind is Conv}
    assert kept == {layer for layer in by_layer if layer in ("conv1", "fc") or layer.startswith("layer2.")}
    assert Dequantize in kinds(engine)
    assert Quantize in kinds(engine)
    assert distance(engine(IMAGES.numpy()), model(IMAGES).detach().numpy()) < 0.05


def test_the_forms_that_operations_take():
    engine = convgate.quantize(Squeezing().eval(), [IMAGES], threads=1)
    assert {Lookup, IntegerMean, IntegerConvToFloat} <= set(kinds(engine))
    assert "uint8" in engine.describe()
    assert uses_integers(engine.program)


def test_other_sizes():
    model = create("cifar_resnet8", width=8).eval()
    engine = convgate.quantize(model, [IMAGES], threads=1)
    larger = torch.randn(2, 3, 24, 20)
    assert distance(engine(larger.numpy()), model(larger).detach().numpy()) < 0.1


def test_a_batch_is_computed_as_its_images():
    engine = convgate.quantize(Squeezing().eval(), [IMAGES], threads=1)
    whole = engine(IMAGES.numpy())
    np.testing.assert_array_equal(whole, np.concatenate([engine(image[None].numpy()) for image in IMAGES]))


def test_batches_are_tuples_too_and_images_only_choose_scales():
    model = create("cifar_resnet8", width=8).eval()
    labels = torch.zeros(8)
    a = convgate.quantize(model, [(IMAGES, labels)], threads=1)
    b = convgate.quantize(model, iter([IMAGES[:4], IMAGES[4:]]), threads=1)
    assert a.program.values == b.program.values


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batches": []}, r"quantize\(\) was given no images"),
        ({"batches": [IMAGES * float("nan")]}, "not finite"),
        ({"batches": [IMAGES], "keep": ["layer9"]}, "no layer 'layer9'"),
        ({"batches": [IMAGES], "keep": "conv1"}, "list of layers"),
        ({"batches": [IMAGES], "heads": -1}, "heads=-1"),
        ({"batches": [IMAGES], "observer": "minmax"}, "observer='minmax': give a rule"),
        ({"batches": [IMAGES], "observer": MinMax}, "observer=.*MinMax.*: give a rule"),
        ({"batches": [IMAGES, IMAGES[:, :2]]}, "images of 2 channels among those that choose scales"),
        ({"batches": [IMAGES], "keep": ["conv1", "layer1", "layer2", "layer3", "fc"]}, "nothing to quantise"),
    ],
)
def test_mistakes(arguments, match):
    with pytest.raises(InputError, match=match):
        convgate.quantize(create("cifar_resnet8", width=8).eval(), **arguments)


def test_images_of_several_sizes_choose_scales_together():
    model = create("cifar_resnet8", width=8).eval()
    narrow = 3 * IMAGES[:2, :, :, :12]
    scales = [
        {value.name: value.scale for value in engine.program.values}
        for engine in (
            convgate.quantize(model, batches, observer=MinMax(), threads=1)
            for batches in ([IMAGES], [narrow], [IMAGES, narrow], [narrow, IMAGES])
        )
    ]
    assert scales[0] != scales[1]
    expected = {name: max(scale, scales[1][name]) for name, scale in scales[0].items()}
    assert scales[2] == scales[3] == expected


def test_of_an_engine_the_same_is_made_as_of_its_network():
    model = create("cifar_resnet8", width=8).eval()
    model.preparation = convgate.Preparation((16, 16), 18)
    engine = convgate.compile(model, IMAGES, threads=1)
    first, second = (convgate.quantize(one, [IMAGES], threads=1) for one in (model, engine))
    assert second.preparation == model.preparation
    np.testing.assert_array_equal(first(IMAGES.numpy()), second(IMAGES.numpy()))
    with pytest.raises(InputError, match="an engine in int8; give it the float32 one"):
        convgate.quantize(second, [IMAGES])


def test_of_an_engine_for_one_size_one_for_that_size_is_made():
    class OneSize(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x) if x.shape[2] % 16 == 0 else self.conv(2 * x)

    engine = convgate.compile(OneSize().eval(), IMAGES, threads=1)
    assert convgate.quantize(engine, [IMAGES], threads=1).program.fixed
    with pytest.raises(InputError, match=r"images of 12 x 16 among those that choose scales.*runs at one size"):
        convgate.quantize(OneSize().eval(), [IMAGES, IMAGES[:, :, :12]], threads=1)
    with pytest.raises(InputError, match="runs at one size"):
        convgate.quantize(engine, [IMAGES[:, :, :12]], threads=1)


def test_an_engine_that_torch_computes_a_part_of_is_refused():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x).sort(1).values

    engine = convgate.compile(Sorted().eval(), IMAGES, threads=1, fallback="torch")
    with pytest.raises(InputError, match="PyTorch computes a part"):
        convgate.quantize(engine, [IMAGES])


def test_images_of_another_shape():
    engine = convgate.quantize(create("cifar_resnet8", width=8).eval(), [IMAGES], threads=1)
    with pytest.raises(InputError, match="shape"):
        engine(IMAGES[:, :2].numpy())


def test_how_images_are_prepared_travels():
    model = create("cifar_resnet8", width=8).eval()
    net = convgate.gate(model, convgate.DualGating(), IMAGES[:1]).eval()
    assert convgate.quantize(model, [IMAGES], threads=1).preparation is None
    for network in (model, net):
        network.preparation = convgate.Preparation((16, 16), 18)
        assert convgate.quantize(network, [IMAGES], threads=1).preparation == network.preparation
