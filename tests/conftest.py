"""What several test files share: models with random norms, so that no feature is zero by accident, and random gates."""

import functools
import gc

import pytest
import torch
from torch import nn

from convgate import DualGating, gate
from convgate.models import create

# The networks are small: two threads are hardly faster than one, and far slower when another process wants a core.
torch.set_num_threads(1)
# Asked for every operation on fake tensors; Lightning makes PyTorch load a library each time to answer.
torch.cuda.is_available = functools.cache(torch.cuda.is_available)


def pytest_collection_finish():
    """What is imported by now stays: half a million objects that the garbage collector need not visit each time."""
    gc.collect()
    gc.freeze()


def _randomise(model, example, seed=0):
    """Give a model lively features: batch norms that fit the data, then everything mildly off. In evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like, low, high):
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.std() < 1e-3:
                parameter.add_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
        for norm in norms:
            norm.weight.copy_(uniform(norm.weight, 0.7, 1.3))
            norm.bias.copy_(uniform(norm.bias, -0.3, 0.3))
            norm.momentum, norm.before = 1.0, norm.momentum
        model.train()
        for dropout in dropouts:
            dropout.eval()
        model(torch.randn(example.shape, generator=generator))
        for norm in norms:
            norm.momentum = norm.before
            del norm.before
            norm.running_mean.add_(uniform(norm.running_mean, -0.2, 0.2) * norm.running_var.sqrt())
            norm.running_var.mul_(uniform(norm.running_var, 0.7, 1.4)).add_(1e-3)
    return model.eval()


@pytest.fixture(scope="session")
def randomise():
    return _randomise


@pytest.fixture
def small():
    """(gated network with random gates, images): CIFAR ResNet-8, 4 channels wide, 16 pixels; in evaluation mode."""
    return _small()


@pytest.fixture(scope="session")
def make_small():
    return _small


def _small(method=None, seed=0, n=3):
    torch.manual_seed(seed)
    images = torch.randn(n, 3, 16, 16)
    model = _randomise(create("cifar_resnet8", width=4), images, seed)
    return _scatter(gate(model, method or DualGating(), images), seed), images


def _scatter(network, seed=0):
    """Give each gate weights and offsets with which its decisions depend on the image, some open and some closed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, module in network.gate_modules():
            for name, parameter in module.named_parameters():
                if name.endswith(("conv.bias", "expand.bias", "linear.bias", "threshold")):
                    parameter.fill_(0.0 if name.endswith("threshold") else 2.0)
                elif parameter.dim() > 1:
                    scale = 2 / parameter[0].numel() ** 0.5
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            module.offset.copy_(torch.randn(module.offset.shape, generator=generator) - 1)
    return network


@pytest.fixture(scope="session")
def scatter():
    return _scatter


@pytest.fixture(scope="session")
def random_decisions():
    """A function (network, n, share open, seed) -> random decisions."""
    from convgate import Decision, Decisions

    def draw(network, n, share=0.6, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return Decisions(
            (name, Decision(d.kind, (torch.rand(d.mask.shape, generator=generator) < share).float()))
            for name, d in network.open_decisions(n).items()
        )

    return draw


@pytest.fixture(scope="session")
def tiny_run():
    """Overrides of the demo's recipe with which a run takes seconds, but for how long the gated network is trained."""
    return (
        "--data.options.size=24",
        "--data.options.train=192",
        "--data.options.validation=64",
        "--data.options.test=64",
        "--model.name=cifar_resnet8",
        "--dense.epochs=1",
        "--dense.batch_size=64",
        "--gated.batch_size=64",
        "--calibration_images=128",
        "--hardware.accelerator=cpu",
        "--hardware.timing_seconds=0.05",
    )
