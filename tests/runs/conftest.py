"""A finished run to take records of: tiny images, tiny network."""

import numpy as np
import pytest

from convgate.recipes.request import Request
from convgate.runs.launch import train

# A few steps of training move no gate far from where it started, so these start with logits on both sides of 0.
PAPER = "--method.options.init=paper"


@pytest.fixture(scope="session")
def tiny(tiny_run):
    return [*tiny_run, PAPER, "--gated.epochs=2", "--hardware.threads=1"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny):
    """The folder of a finished run of digits-demo, in small."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(Request("digits-demo", tuple(tiny)), folder, progress=False)
    return folder


@pytest.fixture
def untrained(monkeypatch):
    """Fails where a stage is trained."""

    def no_training(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr("convgate.runs.training.fit", no_training)


@pytest.fixture(scope="session")
def tiny_overrides(tiny_run):
    """Command-line overrides that make the demo's recipe tiny."""
    return [*tiny_run, PAPER, "--gated.epochs=3", "--budget=0.6"]


@pytest.fixture(scope="session")
def images_of_cifar(tmp_path_factory):
    """A file like CIFAR-10's, of a few random images."""
    path, rng = tmp_path_factory.mktemp("images") / "cifar10.npz", np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 40), ("test", 20)):
        arrays[f"{part}_x"] = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        arrays[f"{part}_y"] = np.arange(n) % 10
    np.savez(path, **arrays, classes=np.array([f"class {i}" for i in range(10)]))
    return path
