"""Recipes: what a run is to be. The shipped ones are YAML files in `shipped/`."""

from convgate.recipes.library import list_recipes, register_recipe

__all__ = ["list_recipes", "register_recipe"]
