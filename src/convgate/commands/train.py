"""Train a gated network from a recipe.

Dense training, gating, training to a compute budget, calibration, evaluation on the test images. Progress is shown;
an interrupted run (Ctrl-C, kill, power cut) is continued, to the same weights, by the same command. A finished one
stays as it is; `convgate evaluate RUN --save` evaluates and times it again.

Any field of the recipe can be overridden after the recipe's name; `convgate recipe --fields` describes them. Recipes
train for as long as the papers do. `--epochs` and `--minutes` shorten all stages of a recipe by one factor; learning
rates and annealing are shortened in proportion, and the run's record says what was run. To run several at once, give
each a share of the cores: `--hardware.threads 1`.

Examples:
  convgate train digits-demo --out runs/mine --gated.epochs 20 --budget 0.4
  convgate train cifar10-resnet20-dual-50 --data cifar10.npz --weights resnet20.safetensors --minutes 60
  convgate train mine.yaml --hardware.devices 2

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from convgate.commands.console import add_json, is_watched, show, show_metrics

if TYPE_CHECKING:
    from convgate.recipes.request import Request

__all__ = ["add_arguments", "add_training", "request_of", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate train`."""
    add_training(parser, "train RECIPE", "folder of the run (default: runs/RECIPE)")


def add_training(parser: ArgumentParser, usage: str, folder: str) -> None:
    """What commands that train have in common: a recipe and its fields, a folder, images, weights, a length.

    `usage`: how the command begins; `folder`: help for it.
    """
    parser.add_argument("recipe", help="a recipe file, or the name of a shipped recipe")
    parser.add_argument("--out", type=Path, help=folder)
    parser.add_argument("--data", metavar="PATH", help="where the images are, short for --data.options.root")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of the dense network, which is then not trained; short for --model.weights FILE --dense.epochs 0",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, help="epochs of gated training; the other stages shrink in proportion")
    length.add_argument(
        "--minutes", type=float, help="how long to train on this machine, at most; a few steps are timed to find out"
    )
    add_json(parser)
    parser.set_defaults(takes_overrides=True, resumes=True)
    parser.usage = (
        f"convgate {usage} [--out FOLDER] [--data PATH] [--weights FILE] [--epochs N | --minutes M] [--json] "
        "[--FIELD VALUE ...]"
    )


def run(arguments: Namespace) -> None:
    """Carry out the recipe and print its metrics."""
    request = request_of(arguments)
    from convgate.runs.launch import train

    folder = arguments.out or Path("runs") / Path(arguments.recipe).stem
    finished = train(request, folder, progress=is_watched())
    if finished is None:
        return
    if arguments.json:
        show(finished.finished.as_data())
    else:
        show_metrics(finished.finished)
        page = f"; the page: {finished.folder.report}" if finished.folder.report.is_file() else ""
        show(f"the run: {folder}{page}")


def request_of(arguments: Namespace) -> "Request":
    """What the command line asks for, checked without torch. `--data` and `--weights` are short for overrides."""
    from convgate.commands.names import check_method, check_model
    from convgate.recipes.read import check_overrides, fields_of, parse_recipe
    from convgate.recipes.request import Request

    check_overrides(arguments.overrides, also=arguments.options)
    data = [f"--data.options.root={arguments.data}"] if arguments.data else []
    weights = [f"--model.weights={arguments.weights}", "--dense.epochs=0"] if arguments.weights else []
    overrides = (*data, *weights, *arguments.overrides)
    read = parse_recipe(fields_of(arguments.recipe), overrides, arguments.recipe, past=True)
    check_model(read.model.name)
    if read.method.name is not None:
        check_method(read.method.name)
    return Request(arguments.recipe, overrides, arguments.epochs, arguments.minutes)
