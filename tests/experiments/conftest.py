"""A finished run to take records of: tiny images, tiny network."""

import pytest

from convgate.training.start import start

TINY = (
    "--data.options.size=24",
    "--data.options.train=192",
    "--data.options.validation=64",
    "--data.options.test=64",
    "--model.name=cifar_resnet8",
    "--dense.epochs=1",
    "--dense.batch_size=64",
    "--gated.epochs=2",
    "--gated.batch_size=64",
    "--calibration_images=128",
    "--hardware.accelerator=cpu",
    "--hardware.threads=1",
)


@pytest.fixture(scope="session")
def tiny():
    return list(TINY)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny):
    """The folder of a finished run of digits-demo, in small."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    start("digits-demo", tiny, folder, progress_bar=False)
    return folder
