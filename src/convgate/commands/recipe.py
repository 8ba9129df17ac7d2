"""List the recipes, or show one.

A recipe is a YAML file that says all that a training run depends on. Copy one, change it, and give it to
`convgate train`.

Examples:
  convgate recipe
  convgate recipe digits-demo > mine.yaml

"""

from argparse import ArgumentParser, Namespace

from convgate.commands.console import show

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate recipe`."""
    parser.add_argument("name", nargs="?", help="the recipe to show (default: list them)")
    parser.add_argument("--fields", action="store_true", help="describe every field that a recipe can have")


def run(arguments: Namespace) -> None:
    """Print the recipe, or the list, or the fields."""
    import sys

    from convgate.recipes.library import find_recipe, list_recipes

    if arguments.name:
        find_recipe(arguments.name)  # a misspelt name is answered before torch is imported
    from convgate.recipes.read import dump_recipe, load_recipe, recipe_parser

    if arguments.fields:
        sys.stdout.write(recipe_parser().format_help())
    elif arguments.name:
        sys.stdout.write(dump_recipe(load_recipe(arguments.name)))
    else:
        from rich import box
        from rich.table import Table

        table = Table("recipe", "what it is", box=box.SIMPLE_HEAD)
        for name in list_recipes():
            table.add_row(name, load_recipe(name).title)
        show(table)
