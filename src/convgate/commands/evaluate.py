"""Evaluate a run or a checkpoint on the full test set.

Accuracy, the share of the dense MACs by the ledger and its spread over the images, and the latency of one image on the
engine, dense and gated. A checkpoint that is not in a run's folder needs a recipe that says which images it is for.
With --precision, also what the engine answers in bfloat16 or 8-bit integers, and how long it takes.

Examples:
  convgate evaluate runs/digits-demo
  convgate evaluate runs/mine --data cifar10.npz --threads 1 --json
  convgate evaluate net.safetensors --recipe cifar10-resnet20-dual-50 --data cifar10.npz
  convgate evaluate runs/mine --precision bf16 --precision int8

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_data, add_json, add_precision, check_run, precisions_of, show, show_metrics

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate evaluate`."""
    parser.add_argument("source", type=Path, help="a run's folder, or a gated network's file")
    add_data(parser)
    parser.add_argument("--recipe", help="which images, and how they are normalised (default: the run's recipe)")
    parser.add_argument("--threads", type=int, help="threads of the engine and of PyTorch (default: the recipe's)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        help="how long to time the engine; 0 does not time it (default: %(default)s)",
    )
    add_precision(parser)
    parser.add_argument(
        "--static",
        action="store_true",
        help="also measure the network with each unit fixed at its majority over training images; for folders only",
    )
    parser.add_argument(
        "--save", action="store_true", help="put the figures into the run's metrics.json; for folders only"
    )
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Evaluate and print."""
    _check(arguments)
    from convgate.runs.evaluate import evaluate_file, evaluate_run

    how = {
        "data": arguments.data,
        "threads": arguments.threads,
        "seconds": arguments.seconds,
        "precisions": precisions_of(arguments),
    }
    if arguments.source.is_dir():
        measured = evaluate_run(arguments.source, save=arguments.save, static=arguments.static, **how)
    else:
        measured = evaluate_file(arguments.source, recipe=arguments.recipe, **how)
    show(measured.as_data()) if arguments.json else show_metrics(measured)


def _check(arguments: Namespace) -> None:
    """Answer what can be told without torch: paths, the recipe's name, options that exclude each other."""
    from convgate.errors import InputError
    from convgate.recipes.library import find_recipe

    source = arguments.source
    if not source.exists():
        raise InputError(f"there is no file and no folder {source}; give a run's folder or a gated network's file")
    if source.is_dir():
        check_run(source)
        if arguments.recipe:
            raise InputError(
                f"--recipe {arguments.recipe}: the run in {source} has its own recipe. Leave --recipe out or name the "
                f"network's file ({source / 'network.safetensors'})"
            )
        return
    if arguments.static:
        raise InputError(
            f"--static fixes units at their majority over the training images of a run, and {source} is not the folder "
            "of a run. Name the folder, or leave --static out"
        )
    if arguments.save:
        raise InputError(
            f"--save puts the figures of a run's network into the run, and {source} is not the folder of a run. Name "
            "the folder, or leave --save out"
        )
    if arguments.recipe:
        find_recipe(arguments.recipe)
