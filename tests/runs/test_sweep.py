import shutil
from importlib import import_module

import pytest
from safetensors.torch import load_file

from convgate.errors import InputError, RecipeError
from convgate.files import write_text
from convgate.recipes.read import load_recipe
from convgate.recipes.request import Request
from convgate.runs.figure import against
from convgate.runs.record import read_csv, record_of
from convgate.runs.run import Run
from convgate.runs.sweep import pareto, sweep


def test_every_budget_is_hit_and_the_dense_network_trained_once(tmp_path, tiny, monkeypatch, caplog):
    caplog.set_level("INFO", "convgate")
    home, request = tmp_path / "swept", Request("digits-demo", tuple(tiny))
    records = sweep(request, [0.7, 0.5], home, progress=False)
    assert [record.run for record in records] == ["swept-0.7", "swept-0.5"]
    assert [record.budget for record in records] == [0.7, 0.5]
    for record in records:
        assert record.macs_share == pytest.approx(record.budget, rel=0.05)
    assert caplog.text.count("dense training for 1 epochs") == 1
    first, second = (load_file(home / record.run / "dense.safetensors") for record in records)
    assert all((first[key] == second[key]).all() for key in first)
    assert load_recipe(home / "swept-0.5" / "recipe.yaml").budget == 0.5
    assert read_csv(home / "sweep.csv") == records
    for axis in ("MACs", "latency"):
        drawing = against(records, axis)
        assert "<svg" in drawing.svg
        assert f"{100 * records[0].accuracy:.2f}%" in drawing.alt

    # What is finished is not done again; what is new is.
    started = []

    class Started:
        def __init__(self, recipe, folder, *, progress):
            started.append(recipe)

        def carry_out(self, origin):
            return None

    monkeypatch.setattr(import_module("convgate.runs.training"), "TrainingRun", Started)
    assert sweep(request, [0.7, 0.5], home, progress=False) == records
    assert not started
    with pytest.raises(RecipeError, match="not the folder of a run"):
        sweep(request, [0.7, 0.6], home, progress=False)
    assert [recipe.budget for recipe in started] == [0.6]
    sweep(request.changed(["--seed=1"]), [0.7], home, progress=False)
    assert started[-1].seed == 1  # another recipe is not taken for the one that is there


def test_each_precision_is_measured_once_and_drawn(tmp_path, finished, monkeypatch):
    shutil.copytree(finished, tmp_path / "swept" / "swept-0.5")
    module = import_module("convgate.runs.sweep")
    monkeypatch.setattr(module, "train", lambda asked, folder, *, progress: None)  # of another recipe than is asked for
    (record,) = sweep(Request("digits-demo"), [0.5], tmp_path / "swept", precisions=["float32", "bf16"], progress=False)
    assert list(record.in_precisions) == ["bf16"]
    measured = Run.load(tmp_path / "swept" / "swept-0.5").finished
    assert record.in_precisions["bf16"] == {
        "accuracy": measured.precisions["bf16"].accuracy,
        "dense_accuracy": measured.precisions["bf16"].dense_accuracy,
        "macs_share": measured.precisions["bf16"].macs_ratio,
        "ms": pytest.approx(measured.latency.precisions["bf16"]["gated"].median_ms, abs=1e-4),
        "dense_ms": pytest.approx(measured.latency.precisions["bf16"]["dense"].median_ms, abs=1e-4),
    }
    assert read_csv(tmp_path / "swept" / "sweep.csv") == [record]
    drawing = against([record], "latency")  # of one run two points
    for label in ("DualGating in bf16", "ungated", "ungated in bf16", "ms per image on the engine"):
        assert f">{label}<" in drawing.svg
    assert against([record], "MACs") is None
    monkeypatch.setattr(module, "evaluate_run", None)  # what is known is not measured again
    assert sweep(Request("digits-demo"), [0.5], tmp_path / "swept", precisions=["bf16"], progress=False) == [record]
    with pytest.raises(InputError, match="is none of the engine's"):
        sweep(Request("digits-demo"), [0.5], tmp_path / "swept", precisions=["half"])


def test_fixed_masks_are_not_swept_in_precisions(tmp_path):
    with pytest.raises(RecipeError, match="has fixed masks"):
        sweep(Request("digits-demo@random"), [0.5], tmp_path / "swept", precisions=["bf16"])


def test_a_control_without_a_budget_is_not_swept(tmp_path):
    with pytest.raises(RecipeError, match="digits-demo@dense has no budget"):
        sweep(Request("digits-demo@dense"), [0.5], tmp_path / "swept")
    assert not (tmp_path / "swept").exists()


def test_budgets_have_folders_of_their_own_however_close_they_are(tmp_path, monkeypatch):
    made = []
    module = import_module("convgate.runs.sweep")

    def train(asked, folder, **_):
        made.append((folder.name, asked.overrides[-1]))
        write_text(folder / "dense.safetensors", "")

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "record_of", lambda folder: None)
    monkeypatch.setattr(module, "to_csv", lambda records: "")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    sweep(Request("digits-demo"), [1, 0.5, 0.5000001], ".", progress=False)
    shares = ["1", "0.5", "0.5000001"]
    assert made == [(f"here-{share}", f"--budget={share}") for share in shares]


@pytest.mark.parametrize("budgets", [[], [0.5, 0.5], [0.0], [1.5]])
def test_budgets_that_make_no_sense_are_refused(budgets, tmp_path):
    with pytest.raises(RecipeError, match="budgets"):
        sweep(Request("digits-demo"), budgets, tmp_path)


def test_the_front_holds_what_nothing_beats(finished):
    from dataclasses import replace

    one = record_of(finished)
    points = [(0.5, 0.9), (0.3, 0.8), (0.4, 0.7), (0.6, 0.9), (0.2, 0.5), (0.2, 0.6)]
    records = [replace(one, macs_share=share, accuracy=accuracy) for share, accuracy in points]
    front = pareto(records, lambda r: r.macs_share)
    assert [(r.macs_share, r.accuracy) for r in front] == [(0.2, 0.6), (0.3, 0.8), (0.5, 0.9)]
    unknown = [replace(r, latency_gated_ms=None) for r in records]
    assert pareto(unknown, lambda r: r.latency_gated_ms) == []
    assert against(unknown, "latency") is None
