import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from convgate.checkpoint import load
from convgate.recipes.identity import settings_of, with_start
from convgate.recipes.read import load_recipe
from convgate.recipes.recipe import Distillation, MethodChoice, ModelChoice
from convgate.runs.command import again, as_started
from convgate.runs.origin import Origin
from convgate.runs.record import read_csv, record_of

RESULTS = Path(__file__).parents[2] / "results"
RECORDED = [record for path in sorted(RESULTS.rglob("*.csv")) for record in read_csv(path)]


def loaded(command):
    """The recipe that a command line trains."""
    program, verb, name, *overrides = shlex.split(command)
    assert (program, verb) == ("convgate", "train")
    return load_recipe(name, overrides)


def test_both_commands_are_the_recipe_that_was_run(finished):
    record = record_of(finished)
    assert record.recipe == "digits-demo"
    assert loaded(record.command) == loaded(record.again) == load_recipe(finished / "recipe.yaml")


def test_the_same_recipe_needs_no_changes():
    settings = settings_of(load_recipe("digits-demo"))
    assert again("digits-demo", settings) == "convgate train digits-demo"


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 3, "budget": None},
        {"title": "of spaces, 'quotes' and $signs"},
        {"distillation": Distillation(weight=0.5, teacher=ModelChoice("cifar_resnet56", rename={"linear.": "fc."}))},
        {"distillation": Distillation(weight=1.0, teacher=ModelChoice("resnet18", {"width": 2}, "pretrained"))},
        {"model": ModelChoice("cifar_resnet20", {"shortcut": "A"}, weights="$WEIGHTS/net.safetensors")},
    ],
)
def test_whatever_was_changed_is_on_the_command_line(changes):
    recipe = replace(load_recipe("cifar10-resnet20-dual-50"), **changes)
    command = again("cifar10-resnet20-dual-50", settings_of(recipe))
    assert command
    # The shell would put the folder in.
    assert settings_of(loaded(command)) == settings_of(recipe)


def test_what_a_recipe_got_since_is_taken_back():
    """Settings of a run from before `budget_annealing`, by the recipe that has it."""
    before = load_recipe("cifar10-resnet20-dual-50")
    command = again("cifar10-resnet20-dual-50-budget-annealing", settings_of(before))
    assert command
    assert settings_of(loaded(command)) == settings_of(before)


def test_fields_that_are_younger_than_the_run_have_no_say():
    settings = settings_of(load_recipe("digits-demo"))
    del settings["calibration_images"]
    assert again("digits-demo", settings) == "convgate train digits-demo"


def test_what_cannot_be_reached_has_no_command():
    settings = settings_of(load_recipe("digits-demo"))
    assert again("no-such-recipe", settings) is None
    assert again("digits-demo", {**settings, "gone": 1}) is None


def test_no_place_of_this_machine_is_named():
    overrides = ("--data.options.root=/home/me/images.npz", "--model.weights", "/home/me/w/net.safetensors")
    command = as_started(Origin("digits-demo", (*overrides, "--method.options={macs: 0.5}"), {}, {}))
    assert command == (
        'convgate train digits-demo --data.options.root="$DATA" --model.weights="$WEIGHTS/net.safetensors" '
        "--method.options='{macs: 0.5}'"
    )
    recipe = load_recipe("digits-demo", overrides)
    settings = settings_of(recipe)
    assert "/home/me" not in json.dumps(settings)
    assert '--model.weights="$WEIGHTS/net.safetensors"' in (again("digits-demo", settings) or "")
    assert settings_of(load_recipe("digits-demo", ["--model.weights=pretrained"]))["model"]["weights"] == "pretrained"


@pytest.mark.parametrize("method", ["DualGating", "Combined"])
def test_a_record_that_leaves_the_start_of_gates_open_was_trained_with_the_papers(method):
    options = (
        {"gates": {"name": "LayerSkipping"}, "penalties": [{"name": "LayerSkipping"}]}
        if method == "Combined"
        else {"tile": 2}
    )
    choice = MethodChoice(method, options)
    settings = settings_of(replace(load_recipe("digits-demo"), method=choice))
    assert "whole" in json.dumps(settings["method"])  # a record of today states it
    assert settings_of(loaded(again("digits-demo", settings))) == settings
    former = {**settings, "method": json.loads(json.dumps(asdict(choice)))}
    assert "init" not in json.dumps(former)
    assert settings_of(loaded(again("digits-demo", former))) == with_start(former, "paper")


def without_younger(reached, settings):
    """What was reached, without fields that recipes did not have when the settings were recorded."""
    return {
        key: without_younger(reached[key], value)
        if isinstance(value, dict) and key not in ("options", "rename")
        else reached[key]
        for key, value in settings.items()
    }


@pytest.mark.parametrize("record", RECORDED, ids=lambda record: record.run)
def test_every_recorded_run_can_be_done_again(record):
    """The page's command trains what the run's settings say, whatever became of the recipe since."""
    assert RECORDED
    # Gates have another default start since, so what a record left open must be on the command line.
    settings = with_start(json.loads(record.settings), "paper")
    assert settings["method"]["name"] is None or '"init": ' in json.dumps(settings["method"])
    assert without_younger(settings_of(loaded(record.again)), settings) == settings


def test_the_checkpoint_says_how_images_are_prepared(finished):
    preparation = load(finished / "network.safetensors").preparation
    assert preparation.classes == tuple("0123456789")
    assert preparation.size == (24, 24)
