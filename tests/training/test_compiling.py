"""Compiled training is other training only by rounding: what a recipe's `hardware.compile` does."""

import pytest
import torch
from torch import nn

from convgate.data import load
from convgate.recipes.read import load_recipe
from convgate.training.fit import training_steps
from convgate.training.parts import build_gated, build_method, build_model


@pytest.fixture
def traced_only(monkeypatch):
    """Compiling without a compiler behind it: forward and backward pass are traced, and run as they are."""
    as_it_is = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda network, **_: as_it_is(network, backend="aot_eager"))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _trained(compiled: str, precision: str) -> dict[str, torch.Tensor]:
    changes = ("--hardware.threads=1", "--gated.batch_size=16", f"--hardware.precision={precision}")
    recipe = load_recipe("digits-demo", (*changes, f"--hardware.compile={compiled}"))
    torch.manual_seed(0)
    splits, method = load(recipe.data.name, **recipe.data.options), build_method(recipe)
    network = build_gated(recipe, build_model(recipe.model), method, splits)
    training_steps(network, recipe.gated, splits, recipe, limit=6, callbacks=[], method=method)
    return network.state_dict()


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_it_trains_as_single_operations_do(precision):
    """In bfloat16 as well, whose backward pass PyTorch would compile under autocast."""
    expected, found = (_trained(compiled, precision) for compiled in ("false", "true"))
    for (name, a), b in zip(expected.items(), found.values(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-5), name
