"""Evaluate a run or a checkpoint on the full test set.

Accuracy, the share of the dense MACs by the ledger and its spread over the images, and the latency of one image on the
engine, dense and gated. A checkpoint that is not in a run's folder needs a recipe that says which images it is for.

Examples:
  convgate evaluate runs/digits-demo
  convgate evaluate runs/mine --data cifar10.npz --threads 1 --json
  convgate evaluate net.safetensors --recipe cifar10-resnet20-dual-50 --data cifar10.npz

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_json, show, show_metrics

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate evaluate`."""
    parser.add_argument("source", type=Path, help="a run's folder, or a gated network's file")
    parser.add_argument("--data", metavar="PATH", help="where the images are (default: where the recipe says)")
    parser.add_argument("--recipe", help="which images, and how they are normalised (default: the run's recipe)")
    parser.add_argument("--threads", type=int, help="threads of the engine and of PyTorch (default: the recipe's)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="how long to time, 0 for not at all (default: %(default)s)"
    )
    parser.add_argument(
        "--save", action="store_true", help="put the figures into the run's metrics.json; for folders only"
    )
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Evaluate and print."""
    from convgate.errors import InputError
    from convgate.runs.evaluate import evaluate_file, evaluate_run

    how = {"data": arguments.data, "threads": arguments.threads, "seconds": arguments.seconds}
    if arguments.source.is_dir():
        if arguments.recipe:
            raise InputError(
                f"--recipe {arguments.recipe}: the run in {arguments.source} has its own recipe. Leave --recipe out or "
                f"name the network's file ({arguments.source / 'network.safetensors'})"
            )
        measured = evaluate_run(arguments.source, save=arguments.save, **how)
    elif arguments.save:
        raise InputError(
            f"--save puts the figures of a run's network into the run, and {arguments.source} is not the folder of a "
            "run. Name the folder, or leave --save out"
        )
    else:
        measured = evaluate_file(arguments.source, recipe=arguments.recipe, **how)
    show(measured.as_data()) if arguments.json else show_metrics(measured)
