import pytest
from safetensors.torch import load_file

from convgate.errors import RecipeError
from convgate.runs.figure import against
from convgate.runs.record import read_csv, record_of
from convgate.runs.sweep import pareto, sweep
from convgate.recipes.recipe import load_recipe


def test_every_budget_is_hit_and_the_dense_network_trained_once(tmp_path, tiny, monkeypatch):
    lines: list[str] = []
    home = tmp_path / "swept"
    records = sweep("digits-demo", tiny, [0.7, 0.5], home, say=lines.append, progress_bar=False)
    assert [record.run for record in records] == ["swept-0.7", "swept-0.5"]
    assert [record.budget for record in records] == [0.7, 0.5]
    for record in records:
        assert record.macs_share == pytest.approx(record.budget, rel=0.05)
    assert sum("training the dense network" in line for line in lines) == 1
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
    monkeypatch.setattr("convgate.runs.sweep.start", lambda source, changes, *a, **k: started.append(changes))
    assert sweep("digits-demo", tiny, [0.7, 0.5], home, progress_bar=False) == records
    assert not started
    with pytest.raises(RecipeError, match="no finished run"):
        sweep("digits-demo", tiny, [0.7, 0.6], home, progress_bar=False)
    assert [changes[-1] for changes in started] == ["--budget=0.6"]
    sweep("digits-demo", [*tiny, "--seed=1"], [0.7], home, progress_bar=False)
    assert "--seed=1" in started[-1]  # another recipe is not taken for the one that is there


@pytest.mark.parametrize("budgets", [[], [0.5, 0.5], [0.0], [1.5]])
def test_budgets_that_make_no_sense_are_refused(budgets, tmp_path):
    with pytest.raises(RecipeError, match="budgets"):
        sweep("digits-demo", [], budgets, tmp_path)


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
