"""Watch a real network learn to skip half of its work, in a few minutes.

Trains a small residual network on scikit-learn's handwritten digits, placed on cluttered canvases; gates it with dual
gating; trains it to half of the multiply-accumulates (MACs); calibrates it to exactly half; evaluates it on images it
has not seen; and writes a page of pictures, report.html, with what the gates learned.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_json, news, show, show_metrics

__all__ = ["add_arguments", "run"]

_DEFAULT = Path("runs/demo")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate demo`."""
    parser.add_argument("--out", type=Path, default=_DEFAULT, help="folder to write (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="start again: delete what a run left in the folder")
    add_json(parser)
    parser.set_defaults(takes_overrides=True)
    parser.usage = "convgate demo [--out FOLDER] [--fresh] [--json] [--FIELD VALUE ...]"


def run(arguments: Namespace) -> None:
    """Run the demo and print where its page is."""
    from convgate.recipes.recipe import load_recipe
    from convgate.runs.folder import RunFolder
    from convgate.runs.report import write_run_report
    from convgate.runs.run import run as carry_out

    recipe = load_recipe("digits-demo", arguments.overrides)
    say, is_terminal = news()
    folder = RunFolder(arguments.out)
    # The default folder is the demo's own; in another, a run of other settings is somebody's.
    if arguments.fresh or (arguments.out == _DEFAULT and folder.holds_other_run(recipe)):
        say(f"starting afresh in {arguments.out}")
        folder.discard()
    finished = carry_out(recipe, arguments.out, say=say, progress_bar=is_terminal)
    if finished is None:
        return
    report = arguments.out / "report.html"
    write_run_report(finished, report)
    if arguments.json:
        show(finished.metrics)
        return
    show_metrics(finished.metrics)
    show(f"the page: {report}")
