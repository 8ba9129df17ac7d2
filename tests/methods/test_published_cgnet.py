"""ChannelGating against the authors' convolution, written anew from the published description of it.

Source: CGNet (NeurIPS 2019), the authors' PyTorch code, `CGConv2d`: what it computes, its gradient, its state dict.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convgate import ChannelGating, calibrate, gate
from convgate.errors import CheckpointError
from convgate.methods import load_cgnet_weights
from convgate.models import create


class _Step(torch.autograd.Function):
    """1 where positive; the gradient passes, unless `sparse` and the input is negative."""

    @staticmethod
    def forward(ctx, x, sparse):
        ctx.save_for_backward(x)
        ctx.sparse = sparse
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return (gradient * (x >= 0).to(x.dtype) if ctx.sparse else gradient), None


class PublishedConv(nn.Module):
    """Y where the gate is open, Yp where it is closed; the weights that make Yp are chosen by `mask`."""

    def __init__(self, conv, p, use_group, shuffle, sparse, alpha, threshold):
        super().__init__()
        outputs, inputs = conv.weight.shape[:2]
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.stride, self.padding = conv.stride, conv.padding
        self.p, self.shuffle, self.sparse, self.alpha = p, shuffle, sparse, alpha
        self.bn = nn.BatchNorm2d(outputs, affine=False)
        self.threshold = nn.Parameter(torch.full((1, outputs, 1, 1), threshold))
        mask = torch.zeros_like(conv.weight)
        for o in range(outputs):
            chunk = o // (outputs // p) if use_group else 0
            for i in range(inputs):
                mask[o, i] = float(i // (inputs // p) == chunk)
        self.mask = nn.Parameter(mask, requires_grad=False)
        self.decided = None

    def forward(self, x):
        if self.shuffle:
            n, c, h, w = x.shape
            x = x.view(n, self.p, c // self.p, h, w).transpose(1, 2).reshape(n, c, h, w)
        base = F.conv2d(x, self.weight * self.mask, None, self.stride, self.padding)
        d = _Step.apply(torch.sigmoid(self.alpha * (self.bn(base) - self.threshold)) - 0.5, self.sparse)
        self.decided = d.detach()
        return F.conv2d(x, self.weight, None, self.stride, self.padding) * d + base * (1 - d)


OPTIONS = [
    {"partitions": 4},
    {"partitions": 2, "groups": False},
    {"partitions": 4, "shuffle": True},
    {"partitions": 2, "groups": False, "shuffle": True, "sparse": False},
    {"partitions": 4, "alpha": 0.7, "sparse": False},
]


def published(model, method):
    """A copy of `model` with the authors' convolution for each conv1 of a block: their `train_cg.sh`."""
    theirs = copy.deepcopy(model)
    for block in list(theirs.modules()):
        if hasattr(block, "conv2"):
            options = method.partitions, method.groups, method.shuffle, method.sparse, method.alpha, method.threshold
            block.conv1 = PublishedConv(block.conv1, *options)
    return theirs


def both(options, randomise, *, dtype=torch.float32):
    """(their network with lively statistics and thresholds, ours with their weights, images)."""
    method = ChannelGating(convs="first", init="paper", threshold=0.0, **options)
    torch.manual_seed(0)
    x = torch.randn(3, 3, 20, 20)
    model = randomise(create("cifar_resnet14", width=8, shortcut="A"), x)
    theirs = randomise(published(model, method), x)
    for m in theirs.modules():
        if isinstance(m, PublishedConv):
            m.threshold.data = torch.randn(m.threshold.shape) * 0.3
    ours = gate(model, method, x)
    load_cgnet_weights(ours, {f"module.{key}": value for key, value in theirs.state_dict().items()})
    return theirs.to(dtype), ours.to(dtype), x.to(dtype)


@pytest.fixture
def lively(randomise):
    """`randomise` for norms without scale and shift, too."""

    def change(model, x):
        affine = {}
        for name, m in model.named_modules():
            if isinstance(m, nn.BatchNorm2d) and not m.affine:
                affine[name] = m
                m.weight, m.bias = (nn.Parameter(torch.empty(m.num_features)) for _ in range(2))
                m.weight.data.fill_(1.0)
                m.bias.data.fill_(0.0)
        randomise(model, x)
        for m in affine.values():
            m.weight = m.bias = None
        return model

    return change


def published_convs(theirs):
    return {name: m for name, m in theirs.named_modules() if isinstance(m, PublishedConv)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_same_decisions_and_outputs_in_evaluation(options, dtype, lively):
    theirs, ours, x = both(options, lively, dtype=dtype)
    expected = theirs(x)
    y, decisions = ours.decide(x)
    assert len(decisions) == 6
    for name, conv in published_convs(theirs).items():
        mask = decisions[f"{name}.activation"].mask
        assert torch.equal(mask, conv.decided)
        assert 0.05 < mask.mean() < 0.95
    assert (y - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_outputs_gradients_and_statistics_in_training(options, lively):
    theirs, ours, x = both(options, lively, dtype=torch.float64)
    expected = theirs.train()(x)
    y, decisions = ours.train().decide(x)
    torch.testing.assert_close(y, expected)
    weights = torch.randn(y.shape, dtype=y.dtype)
    for output in (y, expected):
        (output * weights).sum().backward()
    parameters = dict(ours.named_parameters())
    convs = published_convs(theirs)
    for name, m in convs.items():
        assert torch.equal(decisions[f"{name}.activation"].mask, m.decided)
        head = ours.get_submodule(f"gates.gates.{name}.activation").head
        assert m.threshold.grad.abs().sum() > 0
        torch.testing.assert_close(head.threshold.grad, m.threshold.grad.flatten())
        torch.testing.assert_close(head.norm.running_mean, m.bn.running_mean)
        torch.testing.assert_close(head.norm.running_var, m.bn.running_var)
    for name, parameter in theirs.named_parameters():
        if parameter.grad is None or "threshold" in name:
            continue
        gradient = parameter.grad
        if name.removesuffix(".weight") in convs and options.get("shuffle"):
            # Their weights are of shuffled channels: every p-th one is of the same chunk.
            p, channels = options["partitions"], gradient.shape[1]
            ordered = torch.empty_like(gradient)
            for j in range(channels):
                ordered[:, (j % p) * (channels // p) + j // p] = gradient[:, j]
            gradient = ordered
        torch.testing.assert_close(parameters[name].grad, gradient)


def test_loading_undoes_a_calibration(lively):
    theirs, ours, x = both({}, lively)
    y = ours(x)
    calibrate(ours, [x], 0.8)
    assert not torch.equal(ours(x), y)
    load_cgnet_weights(ours, theirs.state_dict())
    assert torch.equal(ours(x), y)


def test_their_layer_names_are_replaced(lively):
    theirs, ours, _ = both({}, lively)
    state = {key.replace("fc.", "linear."): value for key, value in theirs.state_dict().items()}
    load_cgnet_weights(ours, state, {"linear.": "fc."})
    with pytest.raises(CheckpointError, match=r"fc\.bias.*linear\.bias"):
        load_cgnet_weights(ours, state)


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"groups": False}, r"the mask of layer1\.0\.conv1"),
        ({"partitions": 2}, r"the mask of layer1\.0\.conv1"),
        ({"form": "paper"}, "base_norm"),
        ({"convs": "all"}, "conv2"),
    ],
)
def test_weights_of_another_kind_of_gating_are_refused(other, match, lively):
    theirs, _, x = both({}, lively)
    ours = gate(create("cifar_resnet14", width=8, shortcut="A"), ChannelGating(**{"convs": "first", **other}), x)
    before = {key: tensor.clone() for key, tensor in ours.state_dict().items()}
    with pytest.raises(CheckpointError, match=match):
        load_cgnet_weights(ours, theirs.state_dict())
    assert all(torch.equal(tensor, before[key]) for key, tensor in ours.state_dict().items())
