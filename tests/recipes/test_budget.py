"""`budget: 5ms` in recipes: milliseconds instead of a share, in files and on the command line."""

import pytest
import yaml

from convgate.errors import RecipeError
from convgate.recipes.budget import budget_fields
from convgate.recipes.read import dump_recipe, parse_recipe


@pytest.mark.parametrize("text", ["5ms", "5 ms", " 5.0ms "])
def test_milliseconds(text):
    assert budget_fields(text) == {"budget": None, "milliseconds": 5.0}


@pytest.mark.parametrize("text", ["5s", "ms", "5", "-5ms", "half"])
def test_what_is_no_budget(text):
    with pytest.raises(RecipeError, match="5ms"):
        budget_fields(text)


@pytest.mark.parametrize(
    ("fields", "overrides", "expected"),
    [
        ({"budget": "5ms"}, [], (None, 5.0)),
        ({"budget": 0.4}, ["--budget", "2.5ms"], (None, 2.5)),
        ({"budget": "5ms"}, ["--budget=0.3"], (0.3, None)),
        ({"budget": "5ms"}, ["--budget=null"], (None, None)),
        ({"budget": 0.4}, [], (0.4, None)),
    ],
)
def test_recipes(fields, overrides, expected):
    recipe = parse_recipe(fields, overrides, past=True)
    assert (recipe.budget, recipe.milliseconds) == expected
    again = parse_recipe(yaml.safe_load(dump_recipe(recipe)), past=True)
    assert again == recipe


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"milliseconds": 0.0}, "milliseconds"),
        ({"milliseconds": 5.0, "budget": 0.5}, "budget"),
        ({"budget": "5ms", "method": {"name": None}}, "milliseconds"),
        ({"budget": "5ms", "hardware": {"devices": 2}}, "milliseconds"),
        ({"budget": "5 hours"}, "5 hours"),
    ],
)
def test_recipes_that_make_no_sense(fields, named):
    with pytest.raises(RecipeError, match=named):
        parse_recipe(fields, past=True)
