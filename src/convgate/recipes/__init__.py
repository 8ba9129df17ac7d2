"""Recipes: what a run is to be. The shipped ones are YAML files in `shipped/`."""
