"""Write the page of pictures of a finished run.

Shows how each stage was trained, where the MACs go, what the gates decide, and the cheapest and the dearest images.
Both networks are evaluated again for it. `convgate train` writes the page by itself.

Examples:
  convgate report runs/digits-demo
  convgate report runs/mine --data cifar10.npz --out page.html

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import show

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate report`."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--data", metavar="PATH", help="where the images are (default: where the recipe says)")
    parser.add_argument("--out", type=Path, help="file to write (default: report.html in the run's folder)")


def run(arguments: Namespace) -> None:
    """Write the page and print where it is."""
    from convgate.runs.report import report
    from convgate.runs.run import Run

    show(f"the page: {report(Run.load(arguments.folder, arguments.data), arguments.out)}")
