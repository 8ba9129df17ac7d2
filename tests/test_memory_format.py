"""When networks are trained with channels last: PyTorch writes beyond its memory in one case, with AVX2 alone."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import convgate
from convgate.finetuning import run
from convgate.memory_format import format_for_training
from convgate.training import fit

CPU = torch.device("cpu")


@pytest.fixture
def avx2(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": False})


UNSAFE = nn.Conv2d(4, 8, 1, stride=2)


@pytest.mark.usefixtures("avx2")
@pytest.mark.parametrize("layer", [UNSAFE, nn.Conv2d(16, 16, 1, stride=(1, 2), groups=4)])
def test_a_strided_1x1_convolution_of_few_channels_is_not_safe_with_avx2_alone(layer, monkeypatch):
    assert format_for_training(nn.Sequential(nn.ReLU(), layer), CPU) is torch.contiguous_format
    assert format_for_training(layer, torch.device("cuda")) is torch.channels_last
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": True})
    assert format_for_training(layer, CPU) is torch.channels_last
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
    assert format_for_training(layer, CPU) is torch.channels_last


@pytest.mark.usefixtures("avx2")
@pytest.mark.parametrize("layer", [nn.Conv2d(8, 8, 1, stride=2), nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, stride=2)])
def test_all_others_are(layer):
    assert format_for_training(layer, CPU) is torch.channels_last


def test_training_takes_the_format_that_is_safe(monkeypatch, small):
    """Of a network that is not safe, neither weights nor images are in the other format."""
    net, images = small
    formats = set()

    def note(layer, given):
        if layer.training and torch.is_grad_enabled():
            for tensor in (given[0], layer.weight):
                formats.add(torch.contiguous_format if tensor.is_contiguous() else torch.channels_last)

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            layer.register_forward_pre_hook(note)
    for wanted in {torch.contiguous_format, format_for_training(net, CPU)}:
        formats.clear()
        monkeypatch.setattr(run, "format_for_training", lambda network, device, wanted=wanted: wanted)
        convgate.finetune(net, [images] * 3, budget=0.9, steps=1, keep=0)
        assert formats == {wanted}
    assert fit.format_for_training is format_for_training


SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
layer = nn.Conv2d(4, 8, 1, stride=2)
layer.to(memory_format={format})
for _ in range(50):
    layer(torch.randn(4, 4, 16, 16).contiguous(memory_format={format})).sum().backward()
"""


def test_the_other_format_is_safe():
    """Measured on this processor: what `format_for_training` advises ends as it should, with a checked heap."""
    command = [sys.executable, "-c", SCRIPT.format(format=format_for_training(UNSAFE, CPU))]
    subprocess.run(command, check=True, env={"MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"}, timeout=120)
