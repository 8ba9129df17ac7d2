"""Modules that take single steps."""

import lightning as L
import pytest
import torch

from convgate.data import ImageSet
from convgate.gated import gate
from convgate.models import create
from convgate.recipes.stages import Stage
from convgate.tasks.classification import Classification
from convgate.training.module import TrainingModule


@pytest.fixture
def images():
    """Eight random images of ten classes."""
    pixels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(8) % 10, tuple("0123456789"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def make_module(images):
    """Makes a module that can take steps outside of a training; `recorded` holds what it logs."""

    def make(method=None, *, seed=0, teacher=None, kind=TrainingModule):
        torch.manual_seed(0)
        network = create("cifar_resnet8")
        if method:
            network = gate(network, method, torch.zeros(2, 3, 32, 32)).train()
        stage = Stage(epochs=4)
        module = kind(network, stage, images, Classification(), seed=seed, method=method, teacher=teacher)
        module.trainer = L.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        module.recorded = {}
        module.log_dict = lambda values, **_: module.recorded.update(values)
        return module

    return make
