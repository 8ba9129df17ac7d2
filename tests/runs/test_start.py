"""Runs as the command line starts them: shortened, continued, and with a note of where they come from."""

import json
from dataclasses import asdict

import pytest

from convgate.errors import RecipeError
from convgate.runs.folder import RunFolder
from convgate.runs.origin import Origin, commit
from convgate.recipes.recipe import load_recipe
from convgate.runs.start import start


def test_a_time_is_turned_into_epochs_once(tmp_path, tiny_overrides, monkeypatch):
    overrides = [*tiny_overrides, "--gated.epochs=40", "--hardware.threads=1"]
    lines: list[str] = []
    done = start("digits-demo", overrides, tmp_path, minutes=0.01, say=lines.append, progress_bar=False)
    origin = done.folder.origin()
    assert origin.run == {"dense": 1, "gated": done.recipe.gated.epochs, "finish": 0}
    assert 1 <= done.recipe.gated.epochs < 40
    assert origin.full == {"dense": 18, "gated": 14, "finish": 0}  # digits-demo.yaml
    assert origin.minutes == 0.01
    assert set(origin.images_per_s) == {"dense", "gated"}
    assert any("measuring" in line for line in lines)

    def no_measuring(*args, **kwargs):
        raise AssertionError("measured again")

    monkeypatch.setattr("convgate.runs.start.images_per_second", no_measuring)
    again = start("digits-demo", overrides, tmp_path, minutes=0.01, progress_bar=False)
    assert again.recipe == done.recipe
    assert again.folder.origin() == origin
    with pytest.raises(RecipeError, match="another recipe"):
        start("digits-demo", [*overrides, "--seed=1"], tmp_path, minutes=0.01, progress_bar=False)


def test_several_processes_are_given_epochs_not_minutes(tmp_path, tiny_overrides):
    with pytest.raises(RecipeError, match="instead of minutes"):
        start("digits-demo", [*tiny_overrides, "--hardware.devices=2"], tmp_path, minutes=1, progress_bar=False)
    assert not list(tmp_path.iterdir())


def test_the_note_survives_a_round_trip_and_stays_that_of_the_start(tmp_path):
    recipe = load_recipe("digits-demo")
    first, later = Origin.now("a", ["--seed=1"], recipe, recipe), Origin.now("b", [], recipe, recipe, 3.0)
    assert Origin.from_data(json.loads(json.dumps(asdict(first)))) == first
    folder = RunFolder(tmp_path)
    assert folder.origin() is None
    folder.claim(recipe, first)
    folder.claim(recipe, later)
    assert folder.origin() == first
    folder.discard()
    assert not list(tmp_path.iterdir())


def test_the_commit_is_that_of_this_repository_or_none():
    found = commit()
    assert found is None or all(c in "0123456789abcdef+" for c in found)
