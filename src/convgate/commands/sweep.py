"""Train one recipe at several budgets.

Writes each run's folder, sweep.csv, and plots of accuracy against MACs and against measured latency, in which the
points that no other point beats are joined. Finished runs are not repeated: to resume a sweep, give the same command.

Examples:
  convgate sweep digits-demo --budgets 0.3,0.4,0.5,0.6
  convgate sweep cifar10-resnet20-dual-50 --budgets 0.3,0.5 --data cifar10.npz --weights w.safetensors --minutes 60

"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_precision, is_watched, precisions_of, show
from convgate.commands.train import add_training, request_of

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate sweep`."""
    parser.add_argument(
        "--budgets",
        "--macs",
        required=True,
        metavar="SHARES",
        help="the budgets: shares of the dense MACs, separated by commas",
    )
    add_precision(parser)
    add_training(parser, "sweep RECIPE --budgets SHARES", "folder of the runs (default: runs/sweep-RECIPE)")


def run(arguments: Namespace) -> None:
    """Train, print the table, write the pictures."""
    from dataclasses import asdict

    shares = _shares(arguments.budgets)
    request = request_of(arguments)
    from convgate.files import write_text
    from convgate.runs.compare import comparison
    from convgate.runs.figure import against
    from convgate.runs.sweep import sweep

    folder = arguments.out or Path("runs") / f"sweep-{Path(arguments.recipe).stem}"
    records = sweep(request, shares, folder, precisions=precisions_of(arguments), progress=is_watched())
    written = [folder / "sweep.csv"]
    for axis in ("MACs", "latency"):
        drawing = against(records, axis)
        if drawing is not None:
            written.append(folder / f"accuracy-{axis.lower()}.svg")
            write_text(written[-1], drawing.svg)
    if arguments.json:
        show({"runs": [asdict(record) for record in records]})
        return
    show(comparison(records))
    show(f"written to {', '.join(str(path) for path in written)}")


def _shares(text: str) -> list[float]:
    from convgate.errors import InputError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--budgets {text}: write shares of the dense MACs as 0.3,0.5") from None
