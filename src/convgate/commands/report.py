"""Write the page of pictures of a finished run.

Shows how each stage was trained, where the MACs go, what the gates decide, and the cheapest and the costliest images;
of a detector or segmenter what it found in some images, and where it worked.
Both networks are evaluated again for this. `convgate train` writes the page at its end.

Examples:
  convgate report runs/digits-demo
  convgate report runs/mine --data cifar10.npz --out page.html

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_data, add_json, check_run, show

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate report`."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a finished run")
    add_data(parser)
    parser.add_argument("--out", type=Path, help="file to write (default: report.html in the run's folder)")
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Write the page and print where it is."""
    check_run(arguments.folder)
    from convgate.runs.report import report
    from convgate.runs.run import Run

    page = report(Run.load(arguments.folder, arguments.data), arguments.out)
    show({"page": str(page)} if arguments.json else f"the page: {page}")
