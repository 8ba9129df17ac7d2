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

from convgate.commands.console import add_json, news, show, show_metrics

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate evaluate`."""
    parser.add_argument("source", type=Path, help="a run's folder, or a gated network's file")
    parser.add_argument("--data", metavar="PATH", help="where the images are (default: where the recipe says)")
    parser.add_argument("--recipe", help="which images, and how they are normalised (default: the run's recipe)")
    parser.add_argument("--threads", type=int, help="of the engine and of PyTorch (default: the recipe's)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="how long to time, 0 for not at all (default: %(default)s)"
    )
    parser.add_argument("--save", action="store_true", help="put the figures into the run's metrics.json")
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Evaluate and print."""
    from convgate.runs.evaluate import evaluate_run

    say, _ = news()
    measured = evaluate_run(
        arguments.source,
        data=arguments.data,
        recipe=arguments.recipe,
        threads=arguments.threads,
        seconds=arguments.seconds,
        save=arguments.save,
        say=say,
    )
    show(measured) if arguments.json else show_metrics(measured)
