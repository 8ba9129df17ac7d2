"""Recipes that name an architecture of one's own as package.module:function, and weights by the path of their file."""

import pytest
import torch
from safetensors.torch import save_file

from convgate.errors import ConvgateError
from convgate.models import create
from convgate.recipes.read import load_recipe
from convgate.training.parts import build_method, build_model

PACKAGE = """
from torch import nn

def small(width=8, num_classes=10):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )
"""


@pytest.fixture
def recipe_file(tmp_path, monkeypatch):
    """A recipe for `ownnets.small:small`, whose weights lie beside it under keys with a prefix."""
    (tmp_path / "ownnets").mkdir()
    (tmp_path / "ownnets" / "__init__.py").touch()
    (tmp_path / "ownnets" / "small.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    weights = create("ownnets.small:small", width=4).state_dict()
    save_file({f"net.{key}": value + 1 for key, value in weights.items()}, tmp_path / "small.safetensors")
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model:\n"
        "  name: ownnets.small:small\n"
        "  options: {width: 4}\n"
        f"  weights: {tmp_path / 'small.safetensors'}\n"
        "  rename: {net.: ''}\n"
    )
    return path


def test_the_architecture_is_imported_and_the_weights_are_read(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    model = build_model(recipe.model)
    assert model[0].weight.shape == (4, 3, 3, 3)
    assert torch.equal(model[1].weight, torch.full((4,), 2.0))  # 1 of a fresh batch norm, and the 1 that was added
    assert torch.equal(build_model(recipe.model, weights=False)[1].weight, torch.ones(4))
    assert build_method(recipe) is not None


def test_a_missing_file_of_weights_is_named(recipe_file, tmp_path):
    (tmp_path / "small.safetensors").unlink()
    with pytest.raises(ConvgateError, match=r"small\.safetensors"):
        build_model(load_recipe(recipe_file).model)


def test_a_missing_function_is_named(recipe_file):
    recipe = load_recipe(recipe_file, ["--model.name=ownnets.small:smal"])
    with pytest.raises(ConvgateError, match="smal"):
        build_model(recipe.model)
