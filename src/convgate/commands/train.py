"""Train a gated network from a recipe.

Dense training, gating, training to a compute budget, calibration, evaluation on the test images. Progress is shown;
an interrupted run (Ctrl-C, kill, power cut) is continued, to the same weights, by the same command.

Any field of the recipe can be overridden after the recipe's name; `convgate recipe --fields` describes them.

Examples:
  convgate train digits-demo --out runs/mine --gated.epochs 20 --method.options.macs 0.4 --budget 0.4
  convgate train mine.yaml --hardware.devices 2

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_json, news, show, show_metrics

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate train`."""
    parser.add_argument("recipe", help="a recipe file, or the name of a shipped recipe")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/RECIPE)")
    add_json(parser)
    parser.set_defaults(takes_overrides=True)
    parser.usage = "convgate train RECIPE [--out FOLDER] [--json] [--FIELD VALUE ...]"


def run(arguments: Namespace) -> None:
    """Carry out the recipe and print its metrics."""
    from convgate.training.recipe import load_recipe
    from convgate.training.run import run as carry_out

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    folder = arguments.out or Path("runs") / Path(arguments.recipe).stem
    say, is_terminal = news()
    finished = carry_out(recipe, folder, say=say, progress_bar=is_terminal)
    if finished is None:
        return
    if arguments.json:
        show(finished.metrics)
    else:
        show_metrics(finished.metrics)
        show(f"written to {folder}")
