"""Put several runs into one table.

Shows the accuracy, MACs, their spread over images, latency and schedule of finished runs.

Examples:
  convgate compare runs/a runs/b
  convgate compare runs/* --csv > runs.csv

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_json, check_run, show

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate compare`."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of finished runs")
    form = parser.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument("--csv", action="store_true", help="print the result as CSV, and nothing else, to stdout")


def run(arguments: Namespace) -> None:
    """Print the table."""
    for folder in arguments.runs:
        check_run(folder)
    import sys
    from dataclasses import asdict

    from convgate.runs.compare import comparison
    from convgate.runs.record import record_of, to_csv

    records = [record_of(path) for path in arguments.runs]
    if arguments.csv:
        sys.stdout.write(to_csv(records))
    elif arguments.json:
        show({"runs": [asdict(record) for record in records]})
    else:
        show(comparison(records))
