import pytest

from convgate.errors import RecipeError
from convgate.recipes.recipe import Recipe
from convgate.recipes.schedule import for_epochs, for_minutes, with_epochs
from convgate.recipes.stages import Stage

WHOLE = Recipe(dense=Stage(epochs=200), gated=Stage(epochs=100, milestones=(0.25,)), finish=Stage(epochs=20))


def test_all_stages_shrink_by_one_factor_and_shares_stay():
    shorter = for_epochs(WHOLE, 30)
    assert shorter.epochs == {"dense": 60, "gated": 30, "finish": 6}
    assert shorter.gated.milestones == (0.25,)
    assert with_epochs(shorter, WHOLE.epochs) == WHOLE


def test_a_stage_that_is_there_keeps_an_epoch_and_one_that_is_not_gets_none():
    recipe = with_epochs(WHOLE, {"dense": 0})
    assert for_epochs(recipe, 1).epochs == {"dense": 0, "gated": 1, "finish": 1}


def test_without_gated_training_the_epochs_are_those_of_dense_training():
    assert for_epochs(Recipe(dense=Stage(epochs=9)), 3).epochs["dense"] == 3


@pytest.mark.parametrize("epochs", range(1, 101))
def test_the_epochs_asked_for_are_the_epochs_run(epochs):
    assert for_epochs(WHOLE, epochs).gated.epochs == epochs


def test_minutes_become_epochs_by_the_speed_of_each_stage():
    speeds = {"dense": 100.0, "gated": 50.0, "finish": 10.0}  # 600 images: 200 * 6 s + 100 * 12 s + 20 * 60 s: 1 hour
    assert for_minutes(WHOLE, 60, 600, lambda: speeds) == WHOLE
    assert for_minutes(WHOLE, 600, 600, lambda: speeds) == WHOLE
    assert for_minutes(WHOLE, 30, 600, lambda: speeds).epochs == {"dense": 100, "gated": 50, "finish": 10}
    assert for_minutes(WHOLE, 0.01, 600, lambda: speeds).epochs == {"dense": 1, "gated": 1, "finish": 1}


def test_what_makes_no_sense_is_refused():
    for shorten in (lambda: for_epochs(WHOLE, 0), lambda: for_minutes(WHOLE, 0, 1, dict)):
        with pytest.raises(RecipeError, match=r"at least 1|more than 0"):
            shorten()
    for shorten in (lambda: for_epochs(Recipe(), 3), lambda: for_minutes(Recipe(), 3, 1, dict)):
        with pytest.raises(RecipeError, match="no epochs at all"):
            shorten()
