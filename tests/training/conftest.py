"""A run that takes seconds: tiny images, tiny network, a few epochs."""

import pytest


@pytest.fixture(scope="session")
def tiny_overrides(tiny_run):
    """Command-line overrides that make the demo's recipe tiny."""
    return [*tiny_run, "--gated.epochs=3", "--budget=0.6"]
