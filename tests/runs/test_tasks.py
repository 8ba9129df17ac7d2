"""Runs of tasks with masks and boxes: the same stages, files and continuing as of classification."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from convgate.cli import main
from convgate.gated import GatedModel, GatedNetwork
from convgate.recipes.request import Request
from convgate.runs.evaluate import evaluate_run
from convgate.runs.launch import train

SHORT = (
    "--dense.epochs=1",
    "--gated.epochs=1",
    "--finish.epochs=0",
    "--dense.batch_size=2",
    "--gated.batch_size=2",
    "--finish.batch_size=2",
    "--calibration_images=3",
    "--method.options.init=paper",
    "--method.options.tile=2",
    "--hardware.threads=1",
    "--hardware.workers=0",
    "--hardware.precision=float32",
    "--hardware.timing_seconds=0.05",
    "--distillation.weight=0.5",
)
DETECTION = (
    "--budget=0.7",
    "--task_options.crop=64",
    "--model.options.width=8",
    "--model.options.tower=1",
    *(f"--data.options.{name}={n}" for name, n in {"train": 4, "validation": 2, "test": 2}.items()),
    "--data.options.least=64",
    "--data.options.most=96",
)
SEGMENTER = """
from torch import nn
from convgate.models import create

class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = create("cifar_resnet8", width=4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        b = self.body
        return {"out": self.last(b.layer1(b.relu(b.bn1(b.conv1(x)))))}
"""


@pytest.fixture(scope="module")
def detected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "boxes"
    return train(Request("digits-detection", (*DETECTION, *SHORT)), folder, progress=False)


def test_a_detector_is_trained_gated_calibrated_and_judged(detected):
    metrics = detected.finished
    assert metrics.metric == "AP50"
    assert metrics.test_images == 2
    assert 0 <= metrics.gated.accuracy <= 1
    assert metrics.gated.macs_ratio == pytest.approx(0.7, abs=0.2)  # calibrated on other images
    assert metrics.latency.gated.median_ms > 0
    assert {"AP50", "AP", "AP75"} <= metrics.scores["gated"].keys()
    assert isinstance(detected.network(), GatedModel)
    rows = detected.epochs(detected.recipe.gated)
    assert {"train_classification", "train_distillation", "validation_AP50", "validation_macs_ratio"} <= rows[0].keys()
    again = evaluate_run(detected, seconds=0)
    assert again.gated == metrics.gated


def test_a_detector_that_was_interrupted_ends_in_the_same_weights(detected, tmp_path):
    folder = tmp_path / "again"
    folder.mkdir()
    for name in ("recipe.yaml", "dense.safetensors"):  # as if it had been stopped when gated training began
        (folder / name).write_bytes((detected.folder.path / name).read_bytes())
    again = train(Request("digits-detection", (*DETECTION, *SHORT)), folder, progress=False)
    first, second = (load_file(run.folder.network) for run in (detected, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_segmenter(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in "abcd":
            for kind, shape, most in (("", (24, 32, 3), 256), ("_labels", (24, 32), 2)):
                path = tmp_path / f"{part}{kind}" / f"{name}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(rng.integers(0, most, shape, dtype=np.uint8)).save(path)
    (tmp_path / "net.py").write_text(SEGMENTER)
    recipe = {
        "task": "segmentation",
        "task_options": {"crop": [16, 24]},
        "data": {"name": "pairs", "options": {"root": str(tmp_path), "classes": ["a", "b"], "validation": 1}},
        "model": {"name": f"{tmp_path / 'net.py'}:Segmenter"},
        "method": {"name": "DualGating", "options": {"masks": "equal"}},
        "budget": 0.8,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    run = train(Request(str(tmp_path / "recipe.yaml"), SHORT), tmp_path / "run", progress=False)
    assert run.finished.metric == "mIoU"
    assert run.finished.gated.macs_ratio == pytest.approx(0.8, abs=0.2)
    assert isinstance(run.network(), GatedNetwork)


def test_where_it_worked_is_drawn(detected, capsys):
    folder = detected.folder.path
    assert main(["figure", str(folder), "--images", "0", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    images = detected.splits().test
    heights, widths = zip(*(image.shape[1:] for image, _ in images), strict=True)
    with Image.open(told["picture"]) as picture:
        assert picture.width == 2 * max(widths) + 8
        assert picture.height == sum(heights) + 2 * 16
    assert all(0 < share < 1.1 for share in told["shares"].values())
    assert main(["figure", str(folder), "--images", "2"]) == 2
    assert "from 0 to 1" in capsys.readouterr().err
    assert main(["report", str(folder)]) == 2
    assert "convgate figure" in capsys.readouterr().err
