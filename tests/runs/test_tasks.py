"""Runs of tasks with masks and boxes: the same stages, files and continuing as of classification."""

import importlib.util
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests import segmenters
from tests.made_up_times import made_up_model, watching

from convgate import DualGating, calibrate, compile, gate  # noqa: A004
from convgate.calibration import timed
from convgate.cli import main
from convgate.errors import InputError, RecipeError
from convgate.gated import GatedModel, GatedNetwork
from convgate.recipes.request import Request
from convgate.runs.evaluate import evaluate_run
from convgate.runs.launch import train
from convgate.runs.precisions import engines_in
from convgate.runs.ungated import ungated_macs
from convgate.training.parts import build_task

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
    recipe = {
        "task": "segmentation",
        "task_options": {"crop": [16, 24]},
        "data": {"name": "pairs", "options": {"root": str(tmp_path), "classes": ["a", "b"], "validation": 1}},
        "model": {"name": f"{segmenters.__file__}:Segmenter"},
        "method": {"name": "DualGating", "options": {"masks": "equal"}},
        "budget": 0.8,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    run = train(Request(str(tmp_path / "recipe.yaml"), SHORT), tmp_path / "run", progress=False)
    assert run.finished.metric == "mIoU"
    assert run.finished.gated.macs_ratio == pytest.approx(0.8, abs=0.2)
    assert isinstance(run.network(), GatedNetwork)
    figures = evaluate_run(run, seconds=0, precisions=["float32", "int8"]).precisions
    assert figures["float32"].scores == pytest.approx(run.finished.scores["gated"])
    assert figures["float32"].macs_ratio == run.finished.gated.macs_ratio
    assert 0 < figures["int8"].accuracy <= 1


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


def test_the_report_shows_boxes_and_where_the_work_was_spent(detected, tmp_path):
    written = detected.folder.report.read_text()
    assert main(["report", str(detected.folder.path), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == written
    assert written.count("data:image/jpeg") == 2
    assert "On objects and on background" in written
    for name in ("AP50", "AP75", "Where the MACs go"):
        assert name in written


def test_photographs_are_answered_and_drawn(detected, tmp_path, capsys):
    folder = str(detected.folder.path)
    sizes = {"wide": (60, 90, 3), "grey": (64, 64)}
    for name, shape in sizes.items():
        Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / f"{name}.jpg")
    assert main(["predict", folder, str(tmp_path), "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["picture"] for one in found] == [str(tmp_path / "out" / f"{name}.png") for name in sorted(sizes)]
    assert all(one["boxes"] == [] or one["boxes"][0].keys() == {"class", "score", "box"} for one in found)
    assert all(0 < one["share"] < 1.1 for one in found)
    with Image.open(tmp_path / "out" / "wide.png") as picture:
        assert picture.size == (2 * 90 + 8, 60 + 16)
    assert main(["predict", folder, str(tmp_path / "wide.jpg"), "--out", str(tmp_path / "out")]) == 0
    assert f"{found[1]['share']:.1%} of the dense MACs" in capsys.readouterr().out
    assert main(["predict", folder, str(tmp_path / "out" / "wide.png"), "--out", str(tmp_path / "out")]) == 2
    assert "would replace" in capsys.readouterr().err
    assert main(["predict", folder, str(tmp_path / "wide.jpg")]) == 2
    assert "--out FOLDER" in capsys.readouterr().err


def test_a_detectors_part_is_compiled_and_timed(detected, tmp_path, capsys):
    folder = str(detected.folder.path)
    assert main(["compile", folder, "-o", str(tmp_path / "net.cgm")]) == 0
    assert "run_on(engine, images)" in capsys.readouterr().out
    engines = ["eager", "masked", "engine-dense", "engine-gated"]
    if importlib.util.find_spec("onnxruntime"):
        engines.append("onnxruntime")
    options = ["--only", ",".join(engines), "--threads", "1", "--rounds", "1", "--out", str(tmp_path), "--json"]
    assert main(["bench", folder, *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {row["engine"]: row["failed"] for row in result["rows"]} == dict.fromkeys(engines)
    assert len(result["sizes"]) == 2
    assert result["gated_macs"] < result["dense_macs"]


def test_what_a_detector_finds_in_each_precision(detected, capsys):
    metrics = detected.finished
    options = ["--precision", "float32", "--precision", "bf16", "--precision", "int8", "--seconds", "0.01"]
    assert main(["evaluate", str(detected.folder.path), *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["precisions"]["float32"]["scores"] == pytest.approx(metrics.scores["gated"], abs=1e-6)
    assert told["precisions"]["float32"]["macs_ratio"] == pytest.approx(metrics.gated.macs_ratio)
    for name in ("bf16", "int8"):
        assert 0 <= told["precisions"][name]["accuracy"] <= 1
        assert told["precisions"][name]["dense_accuracy"] is None  # only a gated detector has its part on an engine
        assert all(told["latency"]["precisions"][name][which]["median_ms"] > 0 for which in ("dense", "gated"))
    assert main(["evaluate", str(detected.folder.path), "--precision", "bf16", "--seconds", "0"]) == 0
    assert re.search(r"on the engine in bf16: AP50 \d+\.\d+% gated at \d+\.\d% of the MACs\n", capsys.readouterr().out)


def test_a_detector_is_calibrated_to_milliseconds(detected, monkeypatch):
    images = [[torch.rand(3, 64, 64)] for _ in range(8)]
    network = gate(detected.network().dense(), DualGating(init="paper", tile=2), images[0]).eval()
    engine = compile(network, threads=1)
    model = made_up_model(engine)
    monkeypatch.setattr(timed, "watch", watching(model, 1.2))
    low, high = (1.2 * value for value in model.range(engine.program))
    asked = (low + high) / 2
    done = calibrate(network, images, milliseconds=asked, engine=engine, latency=model, tolerance=0.02)
    assert done.reached == pytest.approx(asked, rel=0.03)
    with pytest.raises(InputError, match="images of that size"):
        calibrate(network, [[torch.rand(3, 64, 96)]], milliseconds=asked, engine=engine, latency=model)


def test_a_detector_without_gates_is_counted(detected):
    task, images = build_task(detected.recipe), detected.splits().test
    network = detected.network()
    counted = ungated_macs(network.dense(), images, task)
    sizes = [network.decide(task.prepared(images, images.batch([n])[0]))[1].size for n in range(len(images))]
    assert counted == round(sum(network.ledger_at(size).dense for size in sizes) / len(sizes))
    with pytest.raises(RecipeError, match="has no gates"):
        engines_in(["bf16"], network.dense(), None, images, task, detected.recipe)
