"""Runs of controls, and of choices on held-out images."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from convgate.cli import main
from convgate.commands.console import show_metrics
from convgate.errors import RecipeError
from convgate.gated import FixedNetwork, GatedNetwork
from convgate.recipes.request import Request
from convgate.runs import Run, evaluate_run
from convgate.runs.launch import train
from convgate.runs.record import read_csv, record_of, to_csv


@pytest.fixture(scope="module", params=["dense", "random"])
def control(request, tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("controls") / request.param
    return train(Request(f"digits-demo@{request.param}", tuple(tiny)), folder, progress=False)


def test_a_control_leaves_what_a_run_leaves(control, finished, tmp_path):
    row, record = record_of(finished), record_of(control)
    assert (record.control_of, record.recipe) == ("digits-demo", f"digits-demo@{record.control}")
    assert (record.epochs, record.seed, record.dense_accuracy) == (row.epochs, row.seed, row.dense_accuracy)
    share = {"dense": 1.0, "random": row.budget}[record.control]
    assert record.macs_share == pytest.approx(share, rel=0.01)
    assert record.macs_p5 == record.macs_p95
    assert (record.static_accuracy, record.latency_gated_ms) == (None, None)
    assert record.command.startswith(f"convgate train digits-demo@{record.control} ")
    (tmp_path / "control.csv").write_text(to_csv([record]))
    assert read_csv(tmp_path / "control.csv") == [record]


def test_its_network_is_loaded_as_it_was_trained(control):
    network = control.trained()
    assert isinstance(network, FixedNetwork) == (control.recipe.control == "random")
    again = evaluate_run(control, seconds=0)
    assert (again.gated, again.dense) == (control.metrics.gated, control.metrics.dense)
    with pytest.raises(RecipeError, match="without gates that decide"):
        control.network()


def test_it_trains_beyond_the_dense_network_and_starts_again_without_training(control, untrained, tmp_path):
    dense, trained = (load_file(control.folder / name) for name in ("dense.safetensors", "network.safetensors"))
    key = next(key for key in trained if key.endswith("conv1.weight"))
    assert not torch.equal(trained[key], dense[key.removeprefix("network.")])
    assert train(control.recipe, control.folder.path, progress=False).metrics == control.metrics
    shutil.copytree(control.folder.path, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    assert train(control.recipe, tmp_path / "run", progress=False).metrics.gated == control.metrics.gated


def test_a_gated_run_is_compared_with_its_majorities(finished, capsys):
    run = Run.load(finished)
    static = run.finished.static
    assert isinstance(run.trained(), GatedNetwork)
    assert 0 <= static.accuracy <= 1
    assert 0 < static.macs_ratio < 1
    assert static.images == len(run.splits().train.take(min(run.recipe.calibration_images, 192), 0))
    record = record_of(run)
    assert (record.static_accuracy, record.changing) == (static.accuracy, static.changing)
    assert evaluate_run(run, seconds=0, static=True).static == static
    assert main(["evaluate", str(finished), "--seconds", "0", "--static", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["static"]["accuracy"] == static.accuracy
    assert main(["evaluate", str(finished / "network.safetensors"), "--static"]) == 2


def test_choices_are_measured_on_held_out_images(tmp_path, tiny, capsys):
    request = Request("digits-demo", (*tiny, "--measured=validation", "--gated.epochs=1"))
    done = train(request, tmp_path / "chosen", progress=False)
    images = len(done.splits().validation)
    assert (done.metrics.test_images, done.metrics.measured) == (images, "validation")
    show_metrics(done.metrics)
    said = capsys.readouterr().out
    assert f"({images:,} validation images)" in said
    assert "validation accuracy" in said
    assert "test" not in said
    assert evaluate_run(done, seconds=0).measured == "validation"
    assert record_of(done).measured == "validation"
    assert "Held-out images" in done.folder.report.read_text()


def test_without_held_out_images_there_is_nothing_to_choose_on(tmp_path, images_of_cifar):
    root = f"--data.options.root={images_of_cifar}"
    request = Request("cifar10-resnet20-dgnet-50", (root, "--measured=validation"))
    with pytest.raises(RecipeError, match="no images are held out"):
        train(request, tmp_path / "run", progress=False)


def test_a_gater_without_weights_is_warned_of(tmp_path, tiny, caplog):
    gater = ["--method.name=GlobalGater", '--method.options={"gater": "cifar_resnet8"}', "--budget=null"]
    overrides = [o for o in tiny if not o.startswith(("--method", "--budget"))]
    with caplog.at_level("WARNING", logger="convgate"):
        train(Request("digits-demo", (*overrides, *gater, "--gated.epochs=1")), tmp_path / "run", progress=False)
    assert any("method.weights is not set" in line for line in caplog.messages)
