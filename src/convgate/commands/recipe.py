"""List the recipes, or show one.

A recipe is a YAML file that says all that a training run depends on. Copy one, change it, and give it to
`convgate train`. RECIPE@CONTROL names a control that a recipe's result is compared with: the network without
gates, trained for as long (dense), a narrower network, masks drawn at random, ..

Examples:
  convgate recipe
  convgate recipe digits-demo > mine.yaml
  convgate recipe cifar10-resnet20-dual-50@dense

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from convgate.commands.console import add_json, show

if TYPE_CHECKING:
    from convgate.recipes.recipe import Recipe

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate recipe`."""
    parser.add_argument("name", nargs="?", help="the recipe to show (default: list them)")
    parser.add_argument("--fields", action="store_true", help="describe every field that a recipe can have")
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Print the recipe, or the list, or the fields."""
    import sys
    from dataclasses import asdict

    from convgate.errors import InputError
    from convgate.recipes.controls import derived, split_name
    from convgate.recipes.library import list_recipes
    from convgate.recipes.read import describe_fields, dump_recipe, field_descriptions, fields_of, parse_recipe

    def read(name: str) -> "Recipe":  # without torch; its method is checked when it is carried out
        row, (of, control) = parse_recipe(fields_of(name), source=name, past=True), split_name(name)
        return derived(row, control, of=of) if control and not Path(name).is_file() else row

    if arguments.fields and arguments.name:
        raise InputError(f"--fields describes the fields of all recipes: leave {arguments.name} out")
    if arguments.fields:
        show({"fields": field_descriptions()}) if arguments.json else sys.stdout.write(describe_fields())
    elif arguments.name:
        recipe = read(arguments.name)
        show(asdict(recipe)) if arguments.json else sys.stdout.write(dump_recipe(recipe))
    else:
        titles = {name: str(fields_of(name).get("title", "")) for name in list_recipes()}
        if arguments.json:
            show({"recipes": titles})
            return
        from rich import box
        from rich.table import Table

        table = Table("recipe", "what it is", box=box.SIMPLE_HEAD)
        for name, title in titles.items():
            table.add_row(name, title)
        show(table)
