"""Write the page of results of a folder from its CSV files.

Each row stands beside the paper's number (published.yaml in the folder), with the schedule that was run and the command
that reproduces it. `--add` first adds finished runs to the folder, as one CSV file each.

Examples:
  convgate results results
  convgate results results --add runs/a runs/b

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_json, check_run, show
from convgate.errors import InputError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate results`."""
    parser.add_argument("folder", type=Path, help="the folder of CSV files, in which README.md is written")
    parser.add_argument(
        "--add", type=Path, nargs="+", default=[], metavar="RUN", help="folders of finished runs to add"
    )
    parser.add_argument("--note", default="", help="what else a reader must know of the runs that are added")
    add_json(parser)


def run(arguments: Namespace) -> None:
    """Note runs, write the page."""
    if arguments.note and not arguments.add:
        raise InputError("--note goes with --add: name the runs that it is about")
    for folder in arguments.add:
        check_run(folder)
    from convgate.runs.page import add, write_page

    paths = [
        str(path) for path in (*add(arguments.add, arguments.folder, arguments.note), write_page(arguments.folder))
    ]
    show({"written": paths} if arguments.json else f"written: {', '.join(paths)}")
