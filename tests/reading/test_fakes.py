"""The quick ways to fake tensors give what PyTorch's own give."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from convgate.reading.copying import copies_of_empty
from convgate.reading.fakes import FakeMode, fake_like, form_of
from convgate.reading.layers import LayerOutputs, configuration

LAYERS = {
    "convolution": nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2),
    "convolution, same": nn.Conv2d(6, 4, 3, padding="same", padding_mode="reflect"),
    "transposed": nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1),
    "linear": nn.Linear(8, 5),
    "batch norm": nn.BatchNorm2d(6),
    "batch norm without parameters": nn.BatchNorm2d(6, affine=False),
    "batch norm without statistics": nn.BatchNorm2d(6, track_running_stats=False),
    "group norm": nn.GroupNorm(2, 6),
    "layer norm": nn.LayerNorm(8),
    "maximum": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "average": nn.AvgPool2d(2),
    "adaptive average": nn.AdaptiveAvgPool2d((3, None)),
}
INPUTS = {
    "contiguous": torch.zeros(2, 6, 7, 8),
    "channels last": torch.zeros(2, 6, 7, 8).to(memory_format=torch.channels_last),
    "part of a tensor": torch.zeros(2, 9, 7, 8)[:, 3:],
}


@torch.no_grad()
def run(mode, layer, x):
    with mode:
        return layer(x)


@pytest.mark.parametrize("form", INPUTS)
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_return_what_pytorchs_fakes_do_called_once_or_again(name, training, form):
    layer, x = copy.deepcopy(LAYERS[name]).train(training), INPUTS[form]
    theirs = FakeTensorMode(allow_non_fake_inputs=True)
    expected = form_of(run(theirs, layer, theirs.from_tensor(x)))
    mode = FakeMode()
    outputs, calls = LayerOutputs(mode), []

    def call(argument):
        calls.append(argument)
        return run(mode, layer, argument)

    for _ in range(2):
        argument = fake_like(x, mode)
        result = outputs.run(layer, (argument,), {}, lambda argument=argument: call(argument))
        assert type(result) is FakeTensor
        assert form_of(result) == expected
    assert len(calls) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_batch_norms_of_every_dtype(training, dtype):
    layer = nn.BatchNorm2d(6).to(dtype).train(training)
    theirs, mode = FakeTensorMode(allow_non_fake_inputs=True), FakeMode()
    x = torch.zeros(2, 6, 7, 8, dtype=dtype)
    assert form_of(run(mode, layer, fake_like(x, mode))) == form_of(run(theirs, layer, theirs.from_tensor(x)))


def test_batch_norms_still_refuse_other_channels():
    mode = FakeMode()
    with pytest.raises(RuntimeError):
        run(mode, nn.BatchNorm2d(6).eval(), fake_like(torch.zeros(2, 5, 7, 8), mode))


def test_what_differs_between_layers_is_not_taken_for_the_same():
    mode = FakeMode()
    x = fake_like(torch.zeros(2, 6, 7, 8), mode)
    layers = [nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, 3, stride=2), nn.Conv2d(6, 4, 3, bias=False), nn.Conv2d(6, 4, 1)]
    layers += [nn.Conv2d(6, 4, 3).double(), nn.Conv2d(6, 4, 3).eval(), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3, groups=2)]
    keys = [configuration(layer, (x,), {}) for layer in layers]
    assert len(set(keys)) == len(layers)
    assert configuration(nn.Conv2d(6, 4, 3), (x,), {}) == keys[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert configuration(layers[0], (x,), {}) not in keys


def test_layers_of_which_more_may_be_said_are_run():
    class Own(nn.Conv2d):
        pass

    mode = FakeMode()
    x = fake_like(torch.zeros(2, 6, 7, 8), mode)
    hooked, before = nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, 3)
    hooked.register_forward_hook(lambda module, args, output: None)
    before.register_forward_pre_hook(lambda module, args: None)
    for layer in (Own(6, 4, 3), hooked, before, nn.Dropout(), nn.ReLU(inplace=True)):
        assert configuration(layer, (x,), {}) is None
    assert configuration(nn.Conv2d(6, 4, 3), (torch.zeros(2, 6, 7, 8),), {}) is None


def test_parameters_and_buffers_stay_what_they_are():
    mode = FakeMode()
    frozen = nn.Parameter(torch.zeros(2, 3), requires_grad=False)
    for tensor in (nn.Parameter(torch.zeros(2, 3)), frozen, torch.zeros(3, 2).t(), torch.zeros(2, dtype=torch.long)):
        fake = fake_like(tensor, mode)
        assert form_of(fake) == form_of(tensor)
        assert isinstance(fake, nn.Parameter) == isinstance(tensor, nn.Parameter)
        assert fake.requires_grad == tensor.requires_grad


def test_copies_share_no_empty_container():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    copied = copy.deepcopy(model, copies_of_empty(model))
    copied[0].register_forward_hook(lambda module, args, output: None)
    copied[1].register_buffer("more", torch.zeros(1), persistent=False)
    assert not model[0]._forward_hooks
    assert not model[1]._non_persistent_buffers_set
    for one, other in zip(model.modules(), copied.modules(), strict=True):
        assert vars(one).keys() == vars(other).keys()
        for name, value in vars(one).items():
            assert type(value) is type(vars(other)[name])
            assert value is not vars(other)[name] or not isinstance(value, dict | set)
