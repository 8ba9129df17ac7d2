"""What a network is lowered to computes what the network does: by the interpreter, which knows no kernels."""

import copy

import pytest
import torch
from tests.engine import small_models
from tests.engine.interpreter import interpret
from tests.small_backbones import SMALL as BACKBONES
from torch import nn
from torch.utils._pytree import tree_leaves

from convgate import ChannelGating, DualGating, gate
from convgate.engine import Engine
from convgate.engine.hybrid import Together
from convgate.engine.lowering import lower
from convgate.engine.lowering.draft import Draft
from convgate.engine.lowering.fuse import fuse
from convgate.engine.program import Activate, Add, Affine, Complete, Conv, Decide, External, Gate, GateKind, Mask
from convgate.errors import ConvgateError, InputError, LoweringError
from convgate.models import create


def close(actual, expected, tolerance=1e-5):
    """Equal to a share of the largest value, shapes included."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


@torch.no_grad()
def assert_lowered(lowered, model, x):
    """The program, run by the interpreter or with PyTorch, returns what the model does."""
    outputs = (run(lowered, x) if any(lowered.program.externals()) else interpret(lowered.program, [x])).outputs
    # A copy of the images: a model may write to them.
    expected = tree_leaves(model(x.clone()))
    assert len(outputs) == len(expected)
    for actual, wanted in zip(outputs, expected, strict=True):
        close(torch.as_tensor(actual), wanted)


def run(lowered, x, given=None):
    """The engine's own run: only it knows how PyTorch takes part."""
    images = x.numpy().copy()
    result = Engine(lowered.program, threads=1, executor=Together(lowered.outside)).run(images, given=given)
    assert (images == x.numpy()).all()  # whatever the network writes to
    return result


# -- one way of using PyTorch each -------------------------------------------------------------------------------------

ALL = {**small_models.NATIVE, **small_models.UNUSUAL, **small_models.REFUSED}


@pytest.fixture
def small_model(request, randomise_norms):
    torch.manual_seed(0)
    model = copy.deepcopy(ALL[request.param])
    return randomise_norms(model), torch.randn(3, 8, 12, 12)


@pytest.fixture
def randomise_norms():
    def randomise(model):
        for norm in model.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.running_mean.normal_(0, 0.3)
                norm.running_var.uniform_(0.4, 1.6)
                if norm.affine:
                    nn.init.uniform_(norm.weight, 0.5, 1.5)
                    nn.init.normal_(norm.bias, 0, 0.3)
        return model.eval()

    return randomise


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("small_model", small_models.NATIVE, indirect=True)
def test_small_models_have_a_native_form(small_model):
    model, x = small_model
    assert_lowered(lower(model, x[:1]), model, x)


@pytest.mark.parametrize("small_model", small_models.UNUSUAL, indirect=True)
@pytest.mark.parametrize("fallback", [None, "torch"])
def test_what_is_lowered_is_right(small_model, fallback):
    """An error of ours, or the same outputs: nothing is translated wrongly."""
    model, x = small_model
    try:
        assert_lowered(lower(model, x[:1], fallback=fallback), model, x)
    except ConvgateError:
        # PyTorch refuses nothing but what the model itself does not take.
        assert fallback is None or raises(model, x)


def raises(model, x):
    try:
        model(x.clone())
    except RuntimeError:
        return True
    return False


@pytest.mark.parametrize("small_model", small_models.REFUSED, indirect=True)
def test_fallback_computes_the_rest(small_model):
    model, x = small_model
    with pytest.raises(LoweringError, match='fallback="torch"'):
        lower(model, x[:1])
    lowered = lower(model, x[:1], fallback="torch")
    targets = [op.target for op in lowered.program.operations if isinstance(op, External)]
    assert targets
    assert set(targets) <= set(lowered.outside.steps)
    assert_lowered(lowered, model, x)


def test_every_node_without_a_native_form_is_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softsign(), nn.Conv2d(4, 4, 3), nn.LogSigmoid(), nn.Conv2d(4, 4, 1))
    with pytest.raises(LoweringError) as error:
        lower(model, torch.zeros(1, 3, 8, 8))
    lines = str(error.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["_1", "_3"]


def test_wrong_arguments():
    model = nn.Conv2d(3, 4, 3)
    for arguments in ((model,), ("resnet18", torch.zeros(1, 3, 8, 8)), (model, torch.zeros(3, 8, 8))):
        with pytest.raises(InputError):
            lower(*arguments)
    with pytest.raises(InputError, match="fallback='onnx'"):
        lower(model, torch.zeros(1, 3, 8, 8), fallback="onnx")


# -- gated networks ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def assert_follows(network, x, decisions):
    """With these decisions: the network's outputs, and its MACs to the unit, layer by layer."""
    program = lower(network).program
    run = interpret(program, [x], {name: decision.mask for name, decision in decisions.items()})
    close(run.outputs[0], network.replay(x, decisions), 1e-4)
    expected = network.cost(decisions).by_layer
    assert list(program.layers) == list(expected)
    assert {name: macs.tolist() for name, macs in run.macs.items()} == {n: m.tolist() for n, m in expected.items()}
    return program


OPTIONS = {
    "default": DualGating(),
    "spatial": DualGating(channel=False),
    "channel": DualGating(spatial=False),
    "groups of channels": DualGating(group=3),
    "tiles of 3": DualGating(tile=3),
    "single positions": DualGating(tile=1),
    "equal masks": DualGating(masks="equal"),
    "everywhere": DualGating(where="everywhere"),
}
SMALL = {"cifar_resnet8": {"width": 4}, "cifar_resnet14": {"width": 4, "shortcut": "A"}}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [16, 19])
@pytest.mark.parametrize("name", SMALL)
def test_random_decisions(name, size, options, randomise, scatter, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(3, 3, size, size)
    model = randomise(create(name, **SMALL[name]), x)
    network = scatter(gate(model, OPTIONS[options], x))
    for share in (0.0, 0.3, 0.7, 1.0):
        assert_follows(network, x, random_decisions(network, 3, share))


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v2",
        "efficientnet_b0",
        "regnet_y_400mf",
        "resnext50_32x4d",
        "wide_resnet50_2",
        "timm/resnetv2_50",
        "timm/res2net50d",
        "timm/dla34",
    ],
)
@pytest.mark.parametrize("group", [1, 5])
def test_models_with_random_decisions(name, group, randomise, scatter, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    network = scatter(gate(randomise(create(name), x), DualGating(group=group), x))
    program = assert_follows(network, x, random_decisions(network, 2))
    # All masks are part of convolutions: nothing is computed to be thrown away.
    assert not any(isinstance(operation, Mask) for operation in program.operations)
    with torch.no_grad():
        own, decisions = interpret(program, [x]), network.decide(x)[1]
    for name, logits in own.logits.items():
        close(logits, decisions[name].logits, 1e-3)


@pytest.mark.parametrize("group", [1, 5])
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_with_random_decisions(name, group, randomise, scatter, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    network = scatter(gate(randomise(BACKBONES[name](), x), DualGating(group=group), x))
    for share in (0.0, 0.6):
        program = assert_follows(network, x, random_decisions(network, 2, share))
    # Masks are part of convolutions, also before a mean of two branches and before squeeze-and-excitation.
    assert not any(isinstance(operation, Mask) for operation in program.operations)


class NormByFunction(nn.Module):
    """A branch whose convolution is masked before a norm that does not keep zeros, and once more after it."""

    def __init__(self, scaled):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.scaled = nn.BatchNorm2d(8), scaled

    def forward(self, x):
        x = torch.relu(self.a(x))
        y = self.b(x)
        if self.scaled:
            y = y * 0.5
        else:
            n = self.norm
            y = torch.nn.functional.batch_norm(y, n.running_mean, n.running_var, n.weight, n.bias)
        return (x + y).mean((2, 3))


@pytest.mark.parametrize(("scaled", "left"), [(True, set()), (False, {Affine, Mask})])
def test_only_what_keeps_zeros_is_fused_into_a_masked_convolution(scaled, left, scatter, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 12, 12)
    model = NormByFunction(scaled).eval()
    nn.init.normal_(model.norm.bias)
    network = scatter(gate(model, DualGating(), x))
    program = assert_follows(network, x, random_decisions(network, 3))
    assert {type(op) for op in program.operations} & {Affine, Mask} == left


@pytest.mark.parametrize("masked", [True, False])
def test_a_mask_goes_where_all_summands_are_zero(masked):
    draft = Draft(gates={"g": Gate("g", GateKind.SPATIAL, (1, 2, 2))})
    x, a, b, y = (draft.new(name, (8, 8, 8)).value for name in ("x", "a", "b", "y"))
    draft.emit(Conv((x,), a, "", "", "first", positions="g" if masked else ""))
    draft.emit(Conv((x, a), b, "", "", "second", positions="g"))
    draft.emit(Mask((b,), y, "g"))
    fuse(draft, frozenset({y}), {})
    assert any(isinstance(operation, Mask) for operation in draft.operations) != masked
    assert draft.operations[-1].output == y


class Branches(nn.Module):
    """Residual branches with activations of which the engine knows that they keep zeros, and that they do not."""

    def __init__(self, activation):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 8), (8, 8), (8, 8)))
        self.norm = nn.BatchNorm2d(8)
        self.activation = activation

    def forward(self, x):
        x = torch.relu(self.a(x))
        return (x + self.activation(self.c(self.activation(self.norm(self.b(x)))))).mean((2, 3))


@pytest.mark.parametrize(
    "activation", [nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.Sigmoid(), nn.Hardsigmoid()], ids=repr
)
def test_activations_before_masks(activation, randomise, scatter, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 12, 12)
    network = scatter(gate(randomise(Branches(activation), x), DualGating(), x))
    assert_follows(network, x, random_decisions(network, 3))


@torch.no_grad()
def test_activations_of_pytorchs_before_masks(randomise, scatter, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 12, 12)
    network = scatter(gate(randomise(Branches(nn.Softplus()), x), DualGating(), x))
    lowered = lower(network, fallback="torch")
    decisions = random_decisions(network, 3)
    result = run(lowered, x, {n: d.mask for n, d in decisions.items()})
    close(torch.as_tensor(result.outputs[0]), network.replay(x, decisions), 1e-4)
    assert result.macs.tolist() == network.cost(decisions).macs.tolist()


def test_convolutions_carry_the_ledgers_gates(make_small):
    network, _ = make_small()
    program = lower(network).program
    costs = {layer.name: layer for layer in network.ledger.layers}
    convs = [op for op in program.operations if isinstance(op, Conv)]
    assert {op.layer for op in convs} == set(program.layers)
    for conv in convs:
        if conv.layer in costs:
            cost = costs[conv.layer]
            assert (conv.positions, conv.out_channels) == (cost.positions or "", cost.outputs or "")
            assert conv.in_channels == (cost.inputs or "")


def test_norms_activations_masks_and_additions_become_part_of_convolutions(make_small):
    program = lower(make_small()[0]).program
    left = [type(op).__name__ for op in program.operations if isinstance(op, Activate | Add | Affine | Mask)]
    assert not left


def test_gates_are_decided_with_their_offsets(make_small):
    network, _ = make_small()
    program = lower(network).program
    offsets = {op.output: program.arrays[op.offset] for op in program.operations if isinstance(op, Decide)}
    assert [gate.name for gate in program.gates] == [spec.name for spec in network.plan.gates]
    shapes = {spec.name: spec.offset_shape for spec in network.plan.gates}
    for name, module in network.gate_modules():
        assert offsets[name].shape == shapes[name]
        assert (offsets[name] == module.offset.numpy()).all()


# -- convolutions computed in part -------------------------------------------------------------------------------------

PARTIAL = {
    "default": ChannelGating(),
    "first chunk for all": ChannelGating(groups=False),
    "shuffled": ChannelGating(shuffle=True, partitions=2),
    "first chunk of shuffled": ChannelGating(groups=False, shuffle=True),
    "two norms": ChannelGating(form="paper"),
    "two norms, shuffled": ChannelGating(form="paper", shuffle=True),
    "shared by 3": ChannelGating(group=3),
    "shared by more than there are": ChannelGating(group=16),
    "first of each branch": ChannelGating(convs="first"),
}


@pytest.fixture
def partial_network(randomise):
    """A function (backbone, method, images) -> the network with base paths, norms and thresholds of some life."""

    def build(model, method, x):
        network = gate(randomise(model, x), method, x)
        with torch.no_grad():
            for norm in (m for _, g in network.gate_modules() for m in [g.head.norm]):
                norm.running_mean.normal_(0, 0.3)
                norm.running_var.uniform_(0.4, 1.6)
            for _, module in network.gate_modules():
                module.head.threshold.normal_()
                module.offset.normal_()
        return network

    return build


@pytest.mark.parametrize("options", PARTIAL)
@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_convolutions_in_part(name, options, partial_network, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 16, 16)
    network = partial_network(create(name, **SMALL[name]), PARTIAL[options], x)
    for share in (0.0, 0.4, 1.0):
        program = assert_follows(network, x, random_decisions(network, 3, share))
    # Norms, thresholds, sums and activations are all part of what completes, and nothing whole is computed.
    assert not any(isinstance(op, Affine | Add | Activate) for op in program.operations)
    completed = {op.layer for op in program.operations if isinstance(op, Complete)}
    assert len(completed) == len(network.plan.partials)
    assert sum(isinstance(op, Conv) for op in program.operations) == len(network.ledger.layers)
    own, decisions = interpret(program, [x]), network.decide(x)[1]
    for gate_name, logits in own.logits.items():
        close(logits, decisions[gate_name].logits, 1e-4)
        assert torch.equal(own.masks[gate_name], decisions[gate_name].mask)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_in_part(name, partial_network, random_decisions):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    network = partial_network(BACKBONES[name](), ChannelGating(partitions=2), x)
    assert_follows(network, x, random_decisions(network, 2))


@torch.no_grad()
def test_a_gate_is_closed_where_its_rule_says_so():
    """At a logit of 0 if `closed_at_zero`, else open there. Nothing is above a threshold of 0 in an image of zeros."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 4, 1, bias=False)).eval()
    x = torch.zeros(1, 3, 4, 4)
    network = gate(model, ChannelGating(), x)
    for closed in (True, False):
        open_ = not closed
        for _, module in network.gate_modules():
            module.closed_at_zero = closed
            module.head.threshold.zero_()  # gates start open
        run = interpret(lower(network).program, [x])
        assert run.masks["1.activation"].bool().all() == open_
        assert torch.equal(run.masks["1.activation"], network.decide(x)[1]["1.activation"].mask)


def test_what_decides_or_is_computed_in_part_otherwise_is_named():
    x = torch.zeros(1, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")).eval()
    with pytest.raises(LoweringError, match=r"base_path: .*padding mode 'reflect'"):
        lower(gate(model, ChannelGating(), x))


# -- the network stays as it is ----------------------------------------------------------------------------------------


def test_a_network_in_training_is_lowered_as_it_evaluates_and_stays_in_training(make_small):
    network, _ = make_small()
    expected = lower(network).program
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    modes = [module.training for module in network.modules()]
    actual = lower(network).program
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert actual.operations == expected.operations
    assert all((actual.arrays[name] == array).all() for name, array in expected.arrays.items())


def test_a_program_does_not_change_with_the_network(make_small):
    network, _ = make_small()
    program = lower(network).program
    before = {name: array.copy() for name, array in program.arrays.items()}
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    assert all((program.arrays[name] == array).all() for name, array in before.items())


@torch.no_grad()
def test_what_pytorch_computes_does_not_change_with_the_network(randomise, scatter):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 12, 12)
    activation = nn.Sequential(nn.Softplus(), nn.GroupNorm(2, 8), nn.Dropout())
    network = scatter(gate(randomise(Branches(activation), x), DualGating(), x))
    expected = network(x)
    lowered = lower(network.train(), fallback="torch")
    for tensor in network.state_dict().values():
        tensor.zero_()
    close(torch.as_tensor(run(lowered, x).outputs[0]), expected, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_arrays_are_float32_whatever_the_network_is(make_small, dtype):
    network, x = make_small()
    program = lower(network.to(dtype)).program
    assert {array.dtype.name for array in program.arrays.values()} == {"float32"}
    with torch.no_grad():
        masks = {name: d.mask.to(dtype) for name, d in network.open_decisions(len(x)).items()}
        output = interpret(program, [x], {name: mask.float() for name, mask in masks.items()}).outputs[0]
        network.float()
        close(output, network.replay(x, network.open_decisions(len(x))), 1e-4)
