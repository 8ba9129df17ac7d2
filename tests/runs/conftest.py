"""A finished run to take records of: tiny images, tiny network."""

import pytest

from convgate.runs.start import start


@pytest.fixture(scope="session")
def tiny(tiny_run):
    return [*tiny_run, "--gated.epochs=2", "--hardware.threads=1"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny):
    """The folder of a finished run of digits-demo, in small."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    start("digits-demo", tiny, folder, progress_bar=False)
    return folder


@pytest.fixture(scope="session")
def tiny_overrides(tiny_run):
    """Command-line overrides that make the demo's recipe tiny."""
    return [*tiny_run, "--gated.epochs=3", "--budget=0.6"]
