"""Whole runs: what they leave behind, that they resume exactly, that they refuse what does not fit."""

import csv
import io
import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import convgate
from convgate.errors import CheckpointError, LoweringError, RecipeError
from convgate.recipes.read import dump_recipe, load_recipe
from convgate.recipes.recipe import ModelChoice
from convgate.recipes.stages import FinishStage
from convgate.runs.folder import RunFolder
from convgate.runs.launch import train
from convgate.runs.run import Run
from convgate.runs.training import TrainingRun
from convgate.training import fit as fit_module


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.said: list[str] = []

    def emit(self, record):
        self.said.append(record.getMessage())


def read_rows(folder):
    return list(csv.DictReader(io.StringIO((folder / "gated" / "epochs.csv").read_text())))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_overrides):
    folder = tmp_path_factory.mktemp("run")
    lines = Lines()
    logging.getLogger("convgate").addHandler(lines)
    logging.getLogger("convgate").setLevel(logging.INFO)
    done = train(load_recipe("digits-demo", tiny_overrides), folder, progress=False)
    logging.getLogger("convgate").removeHandler(lines)
    return done, lines.said


def test_a_run_leaves_a_network_its_metrics_and_its_curves(finished):
    done, lines = finished
    metrics = json.loads((done.folder / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(done.metrics.as_data()))
    assert 0 <= metrics["dense"]["accuracy"] <= 1
    assert list(metrics["gated"]["macs_percentiles"]) == ["5", "25", "50", "75", "95", "99", "100"]
    rows = read_rows(done.folder.path)
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3]
    assert {"train_loss", "validation_accuracy", "train_macs_ratio", "validation_macs_ratio"} <= set(rows[0])
    assert any("calibrated" in line for line in lines)
    assert sum("epoch" in line for line in lines) >= 4


def test_the_budget_is_hit_on_the_calibration_images(finished):
    done, lines = finished
    reached = next(line for line in lines if line.startswith("calibrated to"))
    assert float(reached.split()[2].rstrip("%")) / 100 == pytest.approx(0.6, rel=0.005)
    assert convgate.load(done.folder / "network.safetensors").ledger.dense == done.metrics.dense.macs


def test_starting_a_finished_run_again_leaves_it_as_it_is(finished, monkeypatch, caplog):
    done, _ = finished
    caplog.set_level("INFO", "convgate")
    files = [path for path in done.folder.path.rglob("*") if path.is_file() and path != done.folder.lock]
    before = {path: path.stat().st_mtime_ns for path in files}
    monkeypatch.setattr(TrainingRun, "__init__", None)  # neither images nor networks are made
    again = train(done.recipe, done.folder.path, progress=False)
    assert again.metrics == done.metrics
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert f"finished before; `convgate evaluate {done.folder.path} --save`" in caplog.text


@pytest.fixture
def copied(finished, tmp_path):
    """The folder of a copy of the finished run, to be damaged."""
    return shutil.copytree(finished[0].folder.path, tmp_path / "run")


@pytest.mark.parametrize("lost", ["metrics.json", "report.html", "network.safetensors"])
def test_a_run_that_was_trained_but_not_evaluated_ends_in_the_same_metrics(finished, untrained, copied, lost):
    done, _ = finished
    (copied / lost).unlink()
    again = train(done.recipe, copied, progress=False)
    assert replace(again.metrics, seconds={}, latency=None) == replace(done.metrics, seconds={}, latency=None)
    assert again.metrics.latency.speedup > 0
    assert (copied / lost).is_file()


def test_damaged_metrics_are_measured_again(finished, untrained, copied):
    done, _ = finished
    (copied / "metrics.json").write_text("{")
    assert train(done.recipe, copied, progress=False).metrics.gated == done.metrics.gated


def test_a_stage_that_is_trained_again_takes_the_metrics_with_it(finished, copied, monkeypatch):
    """A run that is stopped before it is evaluated anew has none; the former network's are not taken for them."""
    done, _ = finished
    (copied / "gated.safetensors").unlink()
    shutil.rmtree(copied / "gated")

    def stop(*networks):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            train(done.recipe, copied, progress=False)
    assert Run.load(copied).metrics is None
    assert train(done.recipe, copied, progress=False).metrics.gated == done.metrics.gated


def killed_in_the_second_epoch(stage, recipe, folder, monkeypatch):
    """Start a run that dies in that stage."""

    class KilledError(Exception):
        pass

    original = fit_module.History.on_train_epoch_end

    def die(self, trainer, module):
        if self.path.parent.name == stage and trainer.current_epoch == 1:
            raise KilledError
        original(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module.History, "on_train_epoch_end", die)
        with pytest.raises(KilledError):
            train(recipe, folder, progress=False)


def assert_same_weights(whole, resumed):
    expected, got = (load_file(folder / "network.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_an_interrupted_run_resumes_to_the_same_weights(finished, tmp_path, monkeypatch):
    done, _ = finished

    killed_in_the_second_epoch("gated", done.recipe, tmp_path, monkeypatch)
    assert not (tmp_path / "gated.safetensors").exists()
    train(done.recipe, tmp_path, progress=False)
    assert_same_weights(done.folder.path, tmp_path)
    assert (tmp_path / "gated" / "epochs.csv").read_text() == (done.folder.path / "gated" / "epochs.csv").read_text()


def test_a_network_that_comes_trained_is_looked_at_first(tiny, tmp_path, monkeypatch, caplog):
    def stop(self):
        raise KeyboardInterrupt

    overrides = [*tiny, f"--model.weights={tmp_path / 'net.safetensors'}", "--dense.epochs=0"]
    recipe = load_recipe("digits-demo", overrides)
    torch.manual_seed(0)
    net = convgate.create_model(recipe.model.name, **recipe.model.options)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    monkeypatch.setattr(TrainingRun, "_gated", stop)
    with caplog.at_level("INFO", logger="convgate"), pytest.raises(KeyboardInterrupt):
        TrainingRun(recipe, tmp_path / "run", progress=False).carry_out()
    assert any("the dense network as it came: accuracy" in line for line in caplog.messages)
    assert any("look like guesses" in line for line in caplog.messages)


def test_a_finish_trains_what_the_gates_leave_and_resumes_to_the_same_weights(finished, tmp_path, monkeypatch):
    done, _ = finished
    recipe = replace(done.recipe, finish=replace(done.recipe.gated, epochs=2))
    for name in ("recipe.yaml", "gated.safetensors", "dense.safetensors"):  # trained already
        for part in ("whole", "resumed"):
            (tmp_path / part).mkdir(exist_ok=True)
            shutil.copy(done.folder / name, tmp_path / part)
            (tmp_path / part / "recipe.yaml").write_text(dump_recipe(recipe))
    train(recipe, tmp_path / "whole", progress=False)
    before = load_file(done.folder / "network.safetensors")  # as calibrated after gated training
    after = load_file(tmp_path / "whole" / "finished.safetensors")
    for key, value in before.items():
        held = key.startswith("convgate.")
        assert torch.equal(value, after[key]) == held, key
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert metrics["gated"]["macs_ratio"] == pytest.approx(0.6, abs=0.05)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "whole" / "finish" / "epochs.csv").read_text())))
    assert float(rows[0]["train_macs_ratio"]) == pytest.approx(0.6, abs=0.1)
    assert "train_budget" not in rows[0]
    page = (tmp_path / "whole" / "report.html").read_text()
    assert "Stage: finish" in page
    assert "2 epochs on 192 images; gates: held" in page

    killed_in_the_second_epoch("finish", recipe, tmp_path / "resumed", monkeypatch)
    train(recipe, tmp_path / "resumed", progress=False)
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


def test_a_finish_that_rounds_keeps_its_ranges_and_resumes_to_the_same_weights(finished, tmp_path, monkeypatch):
    done, _ = finished
    recipe = replace(done.recipe, finish=FinishStage(epochs=2, batch_size=64, lr=0.01, quantized=True))
    parts = ("floats", "whole", "resumed")
    for name in ("recipe.yaml", "gated.safetensors", "dense.safetensors"):  # trained already
        for part in parts:
            (tmp_path / part).mkdir(exist_ok=True)
            shutil.copy(done.folder / name, tmp_path / part)
            kept = replace(recipe, finish=replace(recipe.finish, quantized=part != "floats"))
            (tmp_path / part / "recipe.yaml").write_text(dump_recipe(kept))
    train(replace(recipe, finish=replace(recipe.finish, quantized=False)), tmp_path / "floats", progress=False)
    train(recipe, tmp_path / "whole", progress=False)
    killed_in_the_second_epoch("finish", recipe, tmp_path / "resumed", monkeypatch)
    saved = torch.load(tmp_path / "resumed" / "finish" / "last.ckpt", weights_only=True)["state_dict"]
    assert saved["fake.limits"].gt(0).all()
    train(recipe, tmp_path / "resumed", progress=False)
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")
    floats, rounded = (load_file(tmp_path / part / "network.safetensors") for part in ("floats", "whole"))
    assert floats.keys() == rounded.keys()
    assert not torch.equal(floats["conv1.weight"], rounded["conv1.weight"])
    net = convgate.load(tmp_path / "whole" / "network.safetensors")
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_run_that_is_to_round_and_cannot_is_refused_before_it_trains(tmp_path, tiny_overrides, monkeypatch):
    def refuse(*_, **__):
        raise LoweringError("no native form")

    recipe = load_recipe("digits-demo", [*tiny_overrides, "--finish.epochs=1", "--finish.quantized=true"])
    monkeypatch.setattr("convgate.quantization.reads.lower", refuse)
    with pytest.raises(LoweringError, match="no native form"):
        TrainingRun(recipe, tmp_path / "run", progress=False)


@pytest.mark.parametrize("teacher", [[], ["--distillation.teacher.name=cifar_resnet14"]], ids=["dense", "another"])
def test_a_run_with_a_teacher_resumes_to_the_same_weights(teacher, tmp_path, tiny_overrides, monkeypatch):
    """Channel gating, taught by the run's own dense network or by another."""
    method = ["--method.name=ChannelGating", '--method.options={"convs": "all"}', "--gated.epochs=2"]
    recipe = load_recipe(
        "digits-demo", [*tiny_overrides, *method, "--distillation.weight=2", "--distillation.temperature=3", *teacher]
    )
    done = train(recipe, tmp_path / "whole", progress=False)
    rows = read_rows(tmp_path / "whole")
    assert all(float(row["train_distillation"]) > 0 and float(row["train_thresholds"]) > 0 for row in rows)
    assert done.metrics.gated.macs_ratio == pytest.approx(0.6, abs=0.05)
    assert done.metrics.latency.speedup > 0
    state = torch.load(tmp_path / "whole" / "gated" / "last.ckpt", weights_only=True)["state_dict"]
    assert {key.removeprefix("network.") for key in state} == done.network().state_dict().keys()
    page = done.folder.report.read_text()
    assert "temperature 3" in page
    assert "Activation gates" in page

    killed_in_the_second_epoch("gated", recipe, tmp_path / "resumed", monkeypatch)
    train(recipe, tmp_path / "resumed", progress=False)
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


def test_a_teacher_of_other_classes_is_refused_before_training(tmp_path, tiny_overrides):
    options = ["--distillation.weight=1", "--distillation.teacher.name=cifar_resnet8"]
    few = [*options, '--distillation.teacher.options={"num_classes": 5}']
    with pytest.raises(RecipeError, match=r"distillation\.teacher\.options\.num_classes to 10"):
        train(load_recipe("digits-demo", [*tiny_overrides, *few]), tmp_path / "few", progress=False)
    many = [*options, '--distillation.teacher.options={"num_classes": 11}']
    with pytest.raises(RecipeError, match=r"returns \[11\].*numbered in their own order"):
        train(load_recipe("digits-demo", [*tiny_overrides, *many]), tmp_path / "many", progress=False)


def test_another_seed_gives_other_weights(finished, tmp_path):
    done, _ = finished
    other = train(replace(done.recipe, seed=1), tmp_path, progress=False)
    assert not torch.equal(other.network().get_parameter("conv1.weight"), done.network().get_parameter("conv1.weight"))


def test_a_folder_with_another_recipe_is_refused(finished):
    done, _ = finished
    with pytest.raises(RecipeError, match="another recipe"):
        train(replace(done.recipe, seed=1), done.folder.path, progress=False)


def test_two_at_once_do_not_work_on_one_run(finished, copied):
    done, _ = finished
    (copied / "report.html").unlink()
    before = (copied / "metrics.json").read_bytes()
    with RunFolder(copied).held(), pytest.raises(RecipeError, match="another process is at work on the run"):
        train(done.recipe, copied, progress=False)
    assert (copied / "metrics.json").read_bytes() == before
    with RunFolder(copied).held():
        pass


def test_only_a_runs_folder_is_deleted(finished, tmp_path):
    done, _ = finished
    shutil.copytree(done.folder.path, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").touch()
    RunFolder(tmp_path / "run").discard()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    RunFolder(tmp_path / "nothing").discard()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(RecipeError, match="nothing was deleted"):
        RunFolder(tmp_path / "thesis").discard()
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_given_weights_are_loaded_under_other_names(finished, tmp_path):
    done, _ = finished
    weights = load_file(done.folder / "dense.safetensors")
    renamed = {key.replace("fc.", "linear."): value for key, value in weights.items() if "num_batches" not in key}
    save_file(renamed, tmp_path / "weights.safetensors")
    model = ModelChoice("cifar_resnet8", dict(done.recipe.model.options), str(tmp_path / "weights.safetensors"))
    recipe = replace(done.recipe, model=model, dense=replace(done.recipe.dense, epochs=0))
    with pytest.raises(CheckpointError, match=r"fc\.bias.*linear\.bias"):
        train(recipe, tmp_path / "wrong", progress=False)
    recipe = replace(
        recipe, model=replace(model, rename={"linear.": "fc."}), gated=replace(recipe.gated, epochs=0), budget=None
    )
    train(recipe, tmp_path / "right", progress=False)
    assert torch.equal(load_file(tmp_path / "right" / "dense.safetensors")["fc.weight"], weights["fc.weight"])


def test_a_model_with_too_few_classes_is_refused_before_training(finished, tmp_path):
    done, _ = finished
    model = replace(done.recipe.model, options={"num_classes": 5})
    with pytest.raises(RecipeError, match="num_classes to 10"):
        train(replace(done.recipe, model=model), tmp_path, progress=False)


def test_the_seconds_are_those_of_the_steps(finished):
    done, _ = finished
    assert list(done.metrics.seconds) == ["dense training", "gated training", "calibration and evaluation"]
    assert done.metrics.seconds["gated training"] > 0


def test_two_processes_train_one_network(tmp_path, tiny_overrides):
    """Lightning starts the second process by running the command again."""
    command = [sys.executable, "-m", "convgate.cli", "train", "digits-demo", "--out", str(tmp_path / "run"), "--json"]
    # One epoch each; single-threaded, so that two processes fit on two cores.
    overrides = [*tiny_overrides, "--hardware.devices=2", "--gated.epochs=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, *overrides], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test_images"] == 64
    rows = read_rows(tmp_path / "run")
    assert len(rows) == 1
    state = torch.load(tmp_path / "run" / "gated" / "last.ckpt", weights_only=True)
    # 192 images, 64 a step and process: two processes take two steps where one takes three.
    assert state["global_step"] == 1


def test_a_gater_is_trained_first_then_both_networks(tmp_path, tiny_overrides):
    """GaterNet's way (section 3.3): both pre-trained on the task, then joint. Two recipes."""
    common = [o for o in tiny_overrides if not o.startswith(("--budget", "--gated.epochs", "--calibration"))]
    first = load_recipe("digits-demo", [*common, "--gated.epochs=0", "--budget=null"])
    train(first, tmp_path / "gater", progress=False)
    weights = tmp_path / "gater" / "dense.safetensors"
    gater = ["--method.name=GlobalGater", '--method.options={"gater": "cifar_resnet8", "dropout": 0.5}']
    gater += [f"--method.weights={weights}", "--gated.epochs=2", "--budget=null"]
    network = replace(load_recipe("digits-demo", [*common, *gater]), model=ModelChoice("cifar_resnet8"))
    done = train(network, tmp_path / "joint", progress=False)
    trained = load_file(weights)
    trunk = {k.removeprefix("gates.trunk.network."): v for k, v in done.network().state_dict().items()}
    moved = [trunk[key] - trained[key] for key in trained if key in trunk and key.endswith("conv1.weight")]
    # It started there and learned on: not far away, and not there any more.
    assert all(0 < change.abs().mean() < 0.05 for change in moved)
    assert moved
