"""The dense networks that the CIFAR-10 recipes start from, on the full test set. Needs data and weights."""

import os
from pathlib import Path

import pytest

from convgate.data import load as load_data
from convgate.recipes.read import load_recipe
from convgate.runs.measure import on_images
from convgate.training.parts import build_model

DATA, WEIGHTS = (os.environ.get(name) for name in ("CONVGATE_CIFAR10", "CONVGATE_WEIGHTS"))


@pytest.mark.skipif(
    not DATA or not WEIGHTS,
    reason="needs CIFAR-10 and trained networks: set CONVGATE_CIFAR10 to the former and CONVGATE_WEIGHTS to a folder "
    "with cifar10-resnet20.safetensors and cifar10-resnet56.safetensors",
)
@pytest.mark.parametrize(("depth", "accuracy"), [(20, 0.9173), (56, 0.9339)])  # what came with these weights
def test_given_weights_are_read_and_images_prepared_as_they_were_trained(depth, accuracy):
    weights = Path(WEIGHTS) / f"cifar10-resnet{depth}.safetensors"
    changes = [f"--data.options.root={DATA}", f"--model.weights={weights}"]
    recipe = load_recipe(f"cifar10-resnet{depth}-dual-50", changes)
    splits = load_data(recipe.data.name, **recipe.data.options)
    assert len(splits.test) == 10_000
    # Sums rounded otherwise flip an image or two.
    assert on_images(build_model(recipe.model).eval(), splits.test).accuracy == pytest.approx(accuracy, abs=3e-4)
