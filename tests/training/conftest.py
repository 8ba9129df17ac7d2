"""A run that takes seconds: tiny images, tiny network, two epochs a stage."""

import pytest

TINY = (
    "--data.options.size=24",
    "--data.options.train=192",
    "--data.options.validation=64",
    "--data.options.test=64",
    "--model.name=cifar_resnet8",
    "--dense.epochs=1",
    "--dense.batch_size=64",
    "--gated.epochs=3",
    "--gated.batch_size=64",
    "--budget=0.6",
    "--calibration_images=128",
    "--hardware.accelerator=cpu",
)


@pytest.fixture(scope="session")
def tiny_overrides():
    """Command-line overrides that make the demo's recipe tiny."""
    return list(TINY)
