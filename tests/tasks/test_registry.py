from dataclasses import dataclass

import pytest

from convgate.errors import InputError, RecipeError
from convgate.recipes.read import load_recipe
from convgate.tasks import create_task, list_tasks, register_task
from convgate.tasks.detection import Detection
from convgate.tasks.registry import _REGISTERED


@pytest.mark.parametrize("name", list_tasks())
def test_every_task_is_made_by_name_and_says_what_it_is_judged_by(name):
    task = create_task(name)
    assert task.metric
    assert task.takes
    assert type(task).__doc__


def test_a_task_of_somebody_else():
    @register_task("counting")
    @dataclass(frozen=True)
    class Counting(Detection):
        """How many there are."""

    try:
        assert isinstance(create_task("counting"), Counting)
        assert "counting" in list_tasks()
        with pytest.raises(InputError, match="two tasks"):
            register_task("counting")(Detection)
    finally:
        del _REGISTERED["counting"]
    with pytest.raises(InputError, match="not a subclass of Task"):
        register_task("nothing")(object)


def test_recipes_refuse_what_a_task_does_not_know():
    with pytest.raises(RecipeError, match="did you mean detection"):
        load_recipe("digits-detection", ["--task=detecton"])
    with pytest.raises(RecipeError, match="no option 'corp'"):
        load_recipe("digits-detection", ["--task_options.corp=3"])
    with pytest.raises(RecipeError, match="augments as task_options say"):
        load_recipe("digits-detection", ["--augmentation.pad=2"])
