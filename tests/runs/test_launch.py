"""Runs as the command line starts them: shortened, continued, and with a note of where they come from."""

import json
from dataclasses import asdict

import pytest

from convgate.errors import RecipeError
from convgate.recipes.read import load_recipe
from convgate.recipes.request import Request
from convgate.runs.folder import RunFolder
from convgate.runs.launch import train
from convgate.runs.origin import Origin, commit


def test_a_time_is_turned_into_epochs_once(tmp_path, tiny_overrides, monkeypatch, caplog):
    overrides = [*tiny_overrides, "--gated.epochs=40", "--hardware.threads=1"]
    caplog.set_level("INFO", "convgate")
    request = Request("digits-demo", tuple(overrides), minutes=0.01)
    done = train(request, tmp_path, progress=False)
    origin = done.origin
    assert origin.run == {"dense": 1, "gated": done.recipe.gated.epochs, "finish": 0}
    assert 1 <= done.recipe.gated.epochs < 40
    assert origin.full == {"dense": 18, "gated": 14, "finish": 0}  # digits-demo.yaml
    assert origin.minutes == 0.01
    assert set(origin.images_per_s) == {"dense", "gated"}
    assert "measuring" in caplog.text

    def no_measuring(*args, **kwargs):
        raise AssertionError("measured again")

    monkeypatch.setattr("convgate.runs.speed.images_per_second", no_measuring)
    again = train(request, tmp_path, progress=False)
    assert again.recipe == done.recipe
    assert again.origin == origin
    with pytest.raises(RecipeError, match="another recipe"):
        train(request.changed(["--seed=1"]), tmp_path, progress=False)


def test_several_processes_are_given_epochs_not_minutes(tmp_path, tiny_overrides):
    with pytest.raises(RecipeError, match="instead of minutes"):
        train(Request("digits-demo", (*tiny_overrides, "--hardware.devices=2"), minutes=1), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_the_note_survives_a_round_trip_and_stays_that_of_the_start(tmp_path):
    recipe = load_recipe("digits-demo")
    first = Origin.now(Request("digits-demo", ("--seed=1",)), recipe)
    later = Origin.now(Request("digits-demo", minutes=3.0), recipe)
    assert Origin.from_data(json.loads(json.dumps(asdict(first)))) == first
    folder = RunFolder(tmp_path)
    assert folder.read_origin() is None
    folder.claim(recipe, first)
    folder.claim(recipe, later)
    assert folder.read_origin() == first
    folder.discard()
    assert not tmp_path.exists()


def test_the_commit_is_that_of_this_repository_or_none():
    found = commit()
    assert found is None or all(c in "0123456789abcdef+" for c in found)
