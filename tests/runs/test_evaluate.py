"""Evaluating runs and files, and what it leaves behind in the process and on disk."""

import shutil
from dataclasses import replace

import pytest
import torch

from convgate import DualGating, gate, save
from convgate.errors import CheckpointError, InputError, RecipeError
from convgate.gated import FixedNetwork
from convgate.models import create
from convgate.recipes.request import Request
from convgate.runs import Run, evaluate_file, evaluate_run
from convgate.runs.launch import train
from convgate.runs.precisions import engines_in
from convgate.training.parts import build_task

OWN = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*(m for i in (3, 8, 8) for m in (nn.Conv2d(i, 8, 3, padding=1), nn.ReLU())))
        self.fc = nn.Linear(8, 10)
    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""


def test_a_run_is_evaluated_as_training_did_and_only_what_was_measured_is_replaced(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    run = Run.load(folder)
    measured = evaluate_run(run, seconds=0, save=True)
    assert measured == Run.load(folder).metrics
    assert measured == run.metrics  # latency, budget, seed and seconds stay


def test_threads_and_random_numbers_are_the_callers(finished):
    torch.set_num_threads(2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    evaluate_run(finished, threads=1, seconds=0)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_num_threads(1)


def test_a_file_of_a_run_is_evaluated_by_its_recipe_and_never_saved(finished):
    before = (finished / "metrics.json").read_text()
    measured = evaluate_file(finished / "gated.safetensors", seconds=0)  # not calibrated
    assert measured.gated.macs_ratio != Run.load(finished).metrics.gated.macs_ratio
    assert measured.dense.accuracy is None
    assert (finished / "metrics.json").read_text() == before
    with pytest.raises(RecipeError, match="is a file"):
        evaluate_run(finished / "gated.safetensors", save=True)


def test_what_is_missing_is_named(finished, tmp_path):
    with pytest.raises(CheckpointError, match="no run"):
        evaluate_run(tmp_path / "nothing")
    with pytest.raises(RecipeError, match=r"no recipe\.yaml"):
        evaluate_run(tmp_path)
    shutil.copy(finished / "network.safetensors", tmp_path)
    with pytest.raises(RecipeError, match="name a recipe"):
        evaluate_file(tmp_path / "network.safetensors")
    shutil.copy(finished / "recipe.yaml", tmp_path)
    with pytest.raises(RecipeError, match="no finished run"):
        evaluate_run(tmp_path, save=True)


def test_what_the_engine_answers_in_each_precision(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    measured = evaluate_run(folder, seconds=0.01, threads=1, precisions=["float32", "bf16", "int8"], save=True)
    figures = measured.precisions
    assert list(figures) == list(measured.latency.precisions) == ["float32", "bf16", "int8"]
    for both in measured.latency.precisions.values():
        assert both.keys() == {"dense", "gated"}
        assert all(timed.median_ms > 0 for timed in both.values())
    assert figures["float32"].dense_accuracy == measured.dense.accuracy
    assert all(0 < one.dense_accuracy <= 1 for one in figures.values())
    assert figures["float32"].accuracy == measured.gated.accuracy
    assert figures["float32"].macs_ratio == measured.gated.macs_ratio
    for one in figures.values():
        assert one.accuracy == one.scores["accuracy"]
        assert one.macs_ratio == pytest.approx(measured.gated.macs_ratio, abs=0.05)
    # Other numbers than float32's: it was computed in that precision.
    assert len({one.scores["loss"] for one in figures.values()}) == 3
    assert Run.load(folder).metrics == measured
    assert evaluate_run(folder, seconds=0, save=True).precisions == figures  # what was not measured again stays
    # What was timed in other turns is timed again beside what is timed now.
    timed = evaluate_run(folder, seconds=0.01, threads=1, save=True).latency.precisions
    assert list(timed) == ["float32", "bf16", "int8"]
    of_file = evaluate_file(folder / "network.safetensors", seconds=0, threads=1, precisions=["bf16"])
    assert of_file.precisions == {"bf16": replace(figures["bf16"], dense_accuracy=None)}


def test_fixed_masks_have_no_engine(finished):
    run = Run.load(finished)
    network, splits = run.network(), run.splits()
    _, decisions = network.decide(splits.test.example(1))
    fixed, task = FixedNetwork(network, decisions), build_task(run.recipe)
    with pytest.raises(RecipeError, match="masks are fixed"):
        engines_in(["bf16"], fixed, None, splits.train, task, run.recipe)


def test_a_network_without_gates_in_a_precision(tmp_path, tiny_run):
    changes = (*tiny_run, "--gated.epochs=1", "--hardware.threads=1")
    run = train(Request("digits-demo@dense", changes), tmp_path / "plain", progress=False)
    measured = evaluate_run(run, seconds=0.01, precisions=["float32", "bf16"])
    assert measured.precisions["float32"].accuracy == measured.gated.accuracy
    assert [one.macs_ratio for one in measured.precisions.values()] == [1, 1]
    assert measured.latency is None


def test_a_file_of_ones_own_model_is_that_of_the_recipe(finished, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("import convgate\ndef net(**o):\n    return Net(**o)\n" + OWN)
    run, recipe = Run.load(finished), (finished / "recipe.yaml").read_text()
    model = create(f"{tmp_path}/mine.py:net")
    images = run.splits().test
    save(gate(model, DualGating(init="paper"), images.example()).eval(), tmp_path / "net.safetensors")
    changed = recipe.replace("name: cifar_resnet8", f"name: {tmp_path}/mine.py:net", 1)
    options = changed[changed.index("  options:\n", changed.index("\nmodel:")) :].partition("  weights:")[0]
    (tmp_path / "own.yaml").write_text(changed.replace(options, "  options: {}\n", 1))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    measured = evaluate_file(
        tmp_path / "net.safetensors", recipe=tmp_path / "own.yaml", seconds=0.01, threads=1, precisions=["bf16"]
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert measured.latency.precisions["bf16"]["gated"].median_ms > 0
    with pytest.raises(CheckpointError, match=r"does not fit|cannot be gated|differ"):  # another model's recipe
        evaluate_file(tmp_path / "net.safetensors", recipe=finished / "recipe.yaml", seconds=0)


def test_a_precision_that_there_is_not(finished):
    for evaluate, source in ((evaluate_run, finished), (evaluate_file, finished / "network.safetensors")):
        with pytest.raises(InputError, match=r"'fp16' is none of .* float32, bf16, int8"):
            evaluate(source, precisions=["fp16"])


def test_metrics_that_are_damaged_are_refused(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    for text in ("{", "[]", '{"dense": 1}', "null"):
        (folder / "metrics.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"metrics\.json"):
            Run.load(folder)
    metrics = Run.load(finished).metrics
    assert type(metrics).from_json(metrics.to_json()) == metrics
    assert type(metrics).from_json(replace(metrics, latency=None).to_json()).latency is None
