"""Capturing: what Python may ask about tensors, what is kept, and what is refused by name."""

import random
from collections import OrderedDict
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from convgate.errors import InputError, TraceError
from convgate.reading import check_faithful, trace
from convgate.reading.contexts import has_contexts

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Written(nn.Module):
    """A convolution, and what `how` makes of its output [N, 16, H, W]."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.next = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.register_buffer("kernel", torch.ones(16, 1, 3, 3))
        self.register_buffer("counter", torch.zeros(()))
        self.how = how

    def forward(self, x):
        return self.how(self, self.conv(x))


def assertion(m, x):
    assert x.shape[1] == 3 + 13
    assert int(x.shape[2]) == 8
    return x


def odd_height(m, x):
    return x if int(x.size(2)) % 2 else -x


def fitted(m, x):
    y = F.interpolate(F.max_pool2d(x, 2), scale_factor=2)
    if y.shape != x.shape:
        y = F.pad(y, (0, x.shape[-1] - y.shape[-1], 0, x.shape[-2] - y.shape[-2]))
    return x + y


def unpacked(m, x):
    batch, channels, height, width = x.shape
    return x.view(batch, channels, -1).mean(-1) * (height + width)


def flattened(m, x):
    return x.reshape(x.size(0), -1)


def listed(m, x):
    parts = list(x.chunk(2, 1))
    parts.append(F.relu(parts[-1]))
    return torch.cat(parts, 1)


def looped(m, x):
    return sum(part * index for index, part in enumerate(x.split(4, 1)))


def starred(m, x):
    first, *rest = x.split(8, 1)
    return [*x.unbind(1)][1:3], first + rest[0], len(rest)


def zipped(m, x):
    maps = OrderedDict(a=x, b=m.next(x))
    return OrderedDict((name, y + z) for (name, y), z in zip(maps.items(), [x, x], strict=True))


def made_for_the_batch(m, x):
    batch = x.shape[0]
    return x * torch.ones(batch, 1, 1, 1) + torch.zeros((batch, 1, 1, 1), dtype=x.dtype, device=x.device)


def positions(m, x):
    return x + torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)


def asked(m, x):
    return x * (1 if x.is_cuda or x.dim() != 4 or x.dtype == torch.float64 else 2) * torch.finfo(x.dtype).eps


def functional(m, x):
    return F.conv2d(F.conv2d(x, m.kernel, groups=16), m.next.weight)


def coordinates(m, x):
    rows = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1).expand(x.shape[0], 1, -1, x.shape[3])
    return torch.cat([x, rows, rows.new_zeros(x.shape[0], 1, *x.shape[2:]), torch.zeros(x.shape)], 1)


def batch_as_int(m, x):
    batch = int(x.shape[0])
    rows = torch.linspace(-1, 1, 8).view(1, 1, 8, 1).expand(batch, 1, 8, 8).clone()
    x = torch.cat([x, rows, torch.zeros(batch, 1, 8, 8), x.new_ones(size=(len(x), 1, 8, 8))], 1)
    return x.view(batch * 2, -1).view(batch, -1) * torch.arange(batch)[:, None] / float(x.size(0)) + (batch + 3)


def batch_in_numpy(m, x):
    return x.reshape(int(np.prod(x.shape[:2])), -1).sum(1).split([x.shape[1]] * 1 + [len(x) * 16 - 16])


def decided_by_the_batch_as_always(m, x):
    return x if x.shape[0] > 0 else -x


READ = [
    assertion, odd_height, fitted, unpacked, flattened, listed, looped, starred, zipped, made_for_the_batch, positions,
    asked, functional, coordinates, batch_as_int, batch_in_numpy, decided_by_the_batch_as_always,
]  # fmt: skip


@pytest.mark.parametrize("how", READ)
def test_python_that_asks_about_shapes_is_read(how):
    model = Written(how).eval()
    traced = trace(model, X)
    check_faithful(traced)
    graph = fx.GraphModule(traced.module, traced.evaluation)
    for batch in (1, 5):
        images = torch.randn(batch, 3, 8, 8)
        actual, expected = graph(images), model(images)
        assert type(actual) is type(expected)
        torch.testing.assert_close(actual, expected)


def on_values(m, x):
    return x if x.sum() > 0 else -x


def on_a_number(m, x):
    return x * float(x.mean())


def selected(m, x):
    return x[x > 0]


def on_the_batch(m, x):
    return x if x.shape[0] % 2 else -x


def on_a_batch_of_one(m, x):
    return x if x.shape[0] == 1 else -x


def on_the_batch_as_int(m, x):
    return x if int(x.shape[0]) == 1 else -x


def by_half_the_batch(m, x):
    return x[: int(x.shape[0]) // 2]


def over_images(m, x):
    return torch.stack([m.next(image[None]) for image in x])


def stored(m, x):
    m.seen = x
    return x


def counted(m, x):
    m.counter += 1
    return x


def python_draw(m, x):
    return x * random.random()


def numpy_draw(m, x):
    return x * float(np.random.rand())


def torch_draw(m, x):
    return x if torch.rand(1) < 0.5 else -x


def inference_mode(m, x):
    with torch.inference_mode():
        return m.next(x)


def checkpointed(m, x):
    return checkpoint(m.next, x, use_reentrant=False)


REFUSED = {
    on_values: "a decision on values", on_a_number: "a decision on values", selected: "values that are not known",
    on_the_batch: "batch size", on_a_batch_of_one: "batch size", on_the_batch_as_int: "batch size",
    by_half_the_batch: "batch size", over_images: "batch size",
    stored: "'seen'", counted: "counter", python_draw: "random", numpy_draw: "random", torch_draw: "values",
    inference_mode: "no_grad", checkpointed: "checkpoint",
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_what_a_graph_cannot_carry_is_refused_by_name(how):
    with pytest.raises(TraceError) as error:
        trace(Written(how), X)
    assert REFUSED[how] in str(error.value)
    if how not in (stored, counted, python_draw, numpy_draw):
        assert "test_capture.py:" in str(error.value)


def frozen(m, x):
    with torch.no_grad():
        y = m.next(x)
    return x + y


def half(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = m.next(x)
    return x


def test_a_region_without_gradients_stays_one():
    traced = trace(Written(frozen), X)
    assert has_contexts(traced.training)
    model = fx.GraphModule(traced.module, traced.training)
    model(X).sum().backward()
    assert model.next.weight.grad is None
    with torch.no_grad():
        model(X)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_a_region_of_autocast_stays_one():
    model = Written(half).eval()
    traced = trace(model, X)
    check_faithful(traced)
    graph = fx.GraphModule(traced.module, traced.evaluation)
    assert graph(X).dtype == torch.bfloat16
    assert torch.equal(graph(X), model(X))
    assert not torch.is_autocast_enabled("cpu")


def test_tensors_are_not_made_and_random_numbers_are_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(), nn.Upsample(scale_factor=2))
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    traced = trace(model, torch.zeros(1, 3, 1, 1))
    large = traced.at(100_000, 100_000)
    check_faithful(traced)
    assert large.shapes["_2"][2:] == (200_000, 200_000)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_another_size_has_the_same_names_where_it_does_the_same():
    traced = trace(Written(fitted), X)
    even, odd = traced.at(12, 12), traced.at(9, 9)
    assert even.shapes["conv"] == (2, 16, 12, 12)
    assert {"conv", "max_pool2d", "interpolate"} <= even.nodes.keys() & odd.nodes.keys()
    assert set(even.nodes) == set(traced.nodes)
    assert "pad" in odd.nodes
    for other in (even, odd):
        check_faithful(other)
        assert set(other.values) == set(other.nodes) - {"output"}
    with pytest.raises(InputError, match="0 x 8"):
        traced.at(0, 8)


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Written(assertion)

    def forward(self, x):
        return self.inner(x)


def hooked(path):
    model = Wrapper()
    model.get_submodule(path).register_forward_hook(lambda module, inputs, output: output)
    return model


def patched():
    model = Wrapper()
    model.inner.forward = lambda x: x
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: hooked(""), "hook"),
        (lambda: hooked("inner"), "'inner' has 1 hook"),
        (patched, "'inner' has a `forward` attribute"),
        (lambda: torch.jit.trace(Wrapper(), X), "torch.jit"),
        (lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 1))), "torch.jit"),
        (lambda: nn.Sequential(nn.LazyConv2d(3, 1)), "not initialised"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_hooks_and_replaced_methods_are_refused(model, words):
    with pytest.raises((TraceError, InputError)) as error:
        trace(model(), X)
    assert words in str(error.value)


def test_hooks_of_layers_run_with_them():
    model = Wrapper()
    seen = []
    model.inner.conv.register_forward_hook(lambda module, inputs, output: seen.append(type(output)))
    traced = trace(model, X)
    assert not seen
    fx.GraphModule(traced.module, traced.evaluation)(X)
    assert seen == [torch.Tensor]


@pytest.mark.parametrize("how", ["prune", "weight_norm", "spectral_norm"])
@pytest.mark.filterwarnings("ignore")
def test_weights_that_hooks_compute_are_read(how):
    model = Wrapper()
    wrap = {
        "prune": lambda m: prune.l1_unstructured(m, "weight", 0.5),
        "weight_norm": nn.utils.weight_norm,
        "spectral_norm": nn.utils.spectral_norm,
    }[how]
    wrap(model.inner.conv)
    model(X).sum().backward()
    check_faithful(trace(model, X))


class Statistics(nn.Module):
    """Keeps statistics in buffers while it is trained: written in place, and assigned."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        x = self.conv(x)
        if self.training:
            self.steps += 1
            self.mean = 0.5 * self.mean + 0.5 * x.mean((0, 2, 3))
            x = x + self.mean[:, None, None]
        return x - self.mean[:, None, None]


def test_buffers_that_forward_assigns_in_training_are_written():
    model = Statistics().train()
    traced = trace(model, X)
    check_faithful(traced)
    assert int(traced.module.steps) == 0
    assert not traced.module.mean.any()
    graph = fx.GraphModule(traced.module, traced.training)
    for _ in range(2):
        torch.testing.assert_close(graph(X), model(X))
    assert int(traced.module.steps) == 2
    assert not traced.module.mean.requires_grad
    torch.testing.assert_close(traced.module.mean, model.mean)


def test_a_buffer_that_gets_another_shape_is_refused_by_name():
    class Grows(Statistics):
        def forward(self, x):
            if self.training:
                self.mean = x.mean((0, 2))
            return self.conv(x)

    with pytest.raises(TraceError, match=r"'mean'.*shape and dtype"):
        trace(Grows(), X)


@pytest.mark.parametrize("kind", ["parameter", "buffer", "child"])
def test_a_member_may_be_called_self(kind):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            member = nn.Parameter(torch.full((4, 1, 1), 2.0))
            if kind == "child":
                self.add_module("self", nn.Conv2d(4, 4, 1))
            elif kind == "buffer":
                self.register_buffer("self", member.detach())
            else:
                self.register_parameter("self", member)
            self.conv, self.next = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x, member = self.conv(x), self.self
            return self.next(member(x) if kind == "child" else x * member)

    check_faithful(trace(Model(), X))


def test_synchronised_batch_norms_are_read_on_a_cpu():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    traced = trace(model, X)
    check_faithful(traced)
    assert isinstance(traced.module[1], nn.SyncBatchNorm)


def test_einops_sees_tensors():
    einops = pytest.importorskip("einops")

    def tiled(m, x):
        x = einops.rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)
        return einops.reduce(einops.repeat(x, "b n c -> b r n c", r=2), "b r n c -> b c", "mean")

    kept = einops.einops._reconstruct_from_shape.cache_info().currsize
    traced = trace(Written(tiled), X)
    check_faithful(traced)
    for batch in (1, 5):
        assert fx.GraphModule(traced.module, traced.evaluation)(torch.randn(batch, 3, 8, 8)).shape == (batch, 64)
    # Proxies in its cache would keep whole models alive; what the comparison ran is all there is.
    assert einops.einops._reconstruct_from_shape.cache_info().currsize - kept <= 6


def test_an_exported_program_is_read():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).eval()
    traced = trace(torch.export.export(model, (X,)).module(), X)
    check_faithful(traced)
    graph = fx.GraphModule(traced.module, traced.evaluation)
    torch.testing.assert_close(graph(X), model(X))


def checked_type(m, x):
    if not isinstance(x, torch.Tensor) or isinstance(x, list | tuple) or not torch.is_tensor(x):
        raise TypeError("give a tensor")
    return x.relu()


def coordinates(m, x):
    batch, _, height, width = x.shape
    rows = torch.linspace(-1, 1, height).view(1, 1, height, 1).expand(batch, 1, height, width)
    columns = torch.arange(width).view(1, 1, 1, width).repeat(batch, 1, height, 1)
    return torch.cat((x, rows, columns, rows.new_zeros(batch, 1, height, width)), 1)


@pytest.mark.parametrize("how", [checked_type, coordinates])
def test_checks_of_types_and_tensors_that_forward_makes_are_read(how):
    model = Written(how).eval()
    traced = trace(model, X)
    graph = fx.GraphModule(traced.module, traced.evaluation)
    for images in (X, torch.cat((X, X, X))):
        torch.testing.assert_close(graph(images), model(images))


def test_writing_into_a_part_of_a_tensor_is_refused_by_name():
    def written(m, x):
        x[:, 0] = 0
        return x

    with pytest.raises(TraceError, match=r"test_capture.py:\d+ assigns to a part of a tensor"):
        trace(Written(written), X)


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is reversed."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def test_a_function_with_a_gradient_of_its_own_keeps_it():
    model = Written(lambda m, x: Reversed.apply(x))
    traced = trace(model, X)
    graph = fx.GraphModule(traced.module, traced.training)
    graph(X).sum().backward()
    model(X).sum().backward()
    torch.testing.assert_close(traced.module.conv.weight.grad, model.conv.weight.grad)


class Lies(nn.Module):
    """Computes something else than what is read: the first call is not like the others."""

    calls: ClassVar = [0]

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        self.calls[0] += 1
        return self.conv(x) * self.calls[0]


def test_a_graph_that_differs_from_its_model_is_an_error():
    with pytest.raises(TraceError, match="read wrongly"):
        check_faithful(trace(Lies(), X))


class Dropped(nn.Module):
    """A residual block whose branch is dropped for some images in training, written out in each of the usual ways."""

    def __init__(self, how):
        super().__init__()
        self.how, self.stem = how, nn.Conv2d(3, 8, 1)
        self.conv, self.next = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        y = self.next(self.conv(x).relu())
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        if self.training and self.how == "rand":
            y = y.div(0.7) * (0.7 + torch.rand(shape, dtype=x.dtype, device=x.device)).floor_()
        elif self.training and self.how == "bernoulli":
            y = y * x.new_empty(shape).bernoulli_(0.7) / 0.7
        elif self.training:
            y = torch.mul(F.dropout(torch.ones_like(y[:, :1, :1, :1]), 0.3), y)
        return x + y


@pytest.mark.parametrize("how", ["rand", "bernoulli", "dropout"])
def test_what_stochastic_depth_scales_in_training_alone_corresponds(how):
    traced = trace(Dropped(how), X)
    check_faithful(traced)
    pairs = traced.counterparts()
    assert pairs["add"].op == "call_function"
    assert {"stem", "conv", "next_1", "add"} <= pairs.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["calibrated", "converted"])
def test_quantised_models_are_refused_with_what_to_do(how):
    quantization = pytest.importorskip("torch.ao.quantization")
    model = nn.Sequential(quantization.QuantStub(), nn.Conv2d(3, 4, 3), quantization.DeQuantStub()).eval()
    trace(model, X)
    model.qconfig = quantization.default_qconfig
    model = quantization.prepare(model)
    model(X)
    with pytest.raises(TraceError, match=r"convgate\.quantize"):
        trace(quantization.convert(model) if how == "converted" else model, X)
