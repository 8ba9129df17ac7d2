"""Every shipped recipe trains: two steps of each of its stages, on tiny images, with a small network of its family."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from convgate.data import load as load_data
from convgate.recipes.library import list_recipes
from convgate.recipes.read import load_recipe
from convgate.recipes.schedule import for_epochs
from convgate.runs.speed import images_per_second

# Name begins with -> what stands in for it. Deep networks are traced and built for seconds each.
SMALLER = {
    "cifar_resnet18": ("cifar_resnet18", {"width": 8}),
    "cifar_resnet": ("cifar_resnet8", {}),
    "cifar_preact_resnet": ("cifar_preact_resnet11", {}),
    "cifar_shake_shake": ("cifar_shake_shake26_2x32d", {}),
    "cifar_densenet": ("cifar_densenet_bc100_12", {}),
    "resnet18": ("resnet18", {}),
    "resnet34": ("resnet18", {}),
    "resnet": ("resnet50", {}),
}
SPLIT = {"train": 12, "validation": 4, "test": 4}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Data set -> where a tiny one of its form is."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, classes in (("cifar10", 10), ("cifar100", 100)):
        arrays = {}
        for part, n in (("train", 12), ("test", 4)):
            arrays[f"{part}_x"] = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
            arrays[f"{part}_y"] = np.arange(n) % classes
        np.savez(folder / f"{name}.npz", **arrays, classes=np.array([f"class {i}" for i in range(classes)]))
    for part, n in (("train", 3), ("val", 1)):
        for label in range(4):
            for number in range(n):
                path = folder / "imagenet" / part / f"class{label}" / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (90, 80, 3), dtype=np.uint8)).save(path)
    scenes(folder, rng)
    return {
        "cifar10": folder / "cifar10.npz",
        "cifar100": folder / "cifar100.npz",
        "imagenet": folder / "imagenet",
        "coco": folder / "coco",
        "cityscapes": folder / "cityscapes",
    }


def scenes(folder, rng):
    """COCO and Cityscapes with a few images each."""
    for part, n in (("train", 8), ("val", 1)):
        entries = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
        for number in range(n):
            picture = Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8))
            entries["images"].append({"id": number, "file_name": f"{number}.jpg"})
            entries["annotations"].append({"image_id": number, "category_id": 1, "bbox": [8, 8, 40, 40]})
            labels = Image.fromarray(rng.integers(0, 34, (64, 80), dtype=np.uint8))
            for image, path in (
                (picture, folder / "coco" / f"{part}2017" / f"{number}.jpg"),
                (picture, folder / "cityscapes" / "leftImg8bit" / part / "town" / f"{number}_leftImg8bit.png"),
                (labels, folder / "cityscapes" / "gtFine" / part / "town" / f"{number}_gtFine_labelIds.png"),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
        path = folder / "coco" / "annotations" / f"instances_{part}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(entries))


def in_small(name, images):
    """Overrides that leave of a recipe what is its own: the method, the stages, the data's form."""
    recipe = load_recipe(name)
    overrides = ["--hardware.accelerator=cpu", "--hardware.threads=1", "--hardware.precision=float32"]
    overrides += ["--model.weights=null", "--dense.batch_size=4", "--gated.batch_size=4", "--finish.batch_size=4"]
    if recipe.data.name in images:
        overrides += [f"--data.options.root={images[recipe.data.name]}", "--data.options.validation=4"]
    else:
        overrides += [f"--data.options.{part}={n}" for part, n in SPLIT.items()]
    if recipe.data.name == "imagenet":
        overrides.append(f"--data.options.size={107 if 'inception' in recipe.model.name else 64}")
        overrides.append("--model.options.num_classes=4")
        if isinstance(recipe.method.options.get("tile"), dict):  # by the heights of 224-pixel images
            overrides.append("--method.options.tile=null")
    if recipe.data.name == "coco":
        overrides += ["--model.options.least=64", "--model.options.num_classes=2", "--hardware.devices=1"]
        overrides += ["--task_options.crop=64", "--model.options.body=resnet18"]
    if recipe.data.name == "cityscapes":
        overrides += ["--task_options.crop=[48,64]", "--model.options.width=16", "--gated.batch_size=2"]
    for begin, (smaller, options) in SMALLER.items():
        if recipe.model.name.startswith(begin):
            overrides.append(f"--model.name={smaller}")
            overrides += [f"--model.options.{key}={value}" for key, value in options.items()]
            break
    return overrides


def once_each():
    """The recipes, of those that differ by title and budget alone the first."""
    found = {}
    for name in list_recipes():
        recipe = load_recipe(name)
        options = {key: value for key, value in recipe.method.options.items() if key != "budget"}
        plain = replace(recipe, title="", budget=0.5, milliseconds=None, method=replace(recipe.method, options=options))
        found.setdefault(repr(plain), name)
    return list(found.values())


@pytest.mark.parametrize("name", once_each())
def test_it_starts(name, images):
    recipe = load_recipe(name, in_small(name, images))
    splits = load_data(recipe.data.name, **recipe.data.options)
    speeds = images_per_second(for_epochs(recipe, 1), splits, warmup=1, timed=1)
    assert set(speeds) == {stage for stage, epochs in recipe.epochs.items() if epochs}
    assert all(speed > 0 for speed in speeds.values())
