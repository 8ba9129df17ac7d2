"""Watch a real network learn to skip half of its work, in a few minutes.

Trains a small residual network on handwritten digits placed on cluttered canvases; gates it with dual
gating; trains it to half of the multiply-accumulates (MACs); calibrates it to exactly half; evaluates it on images it
has not seen; and writes report.html, a page of pictures of what the gates learned.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from convgate.commands.console import add_json, is_watched, show, show_metrics

__all__ = ["add_arguments", "run"]

_DEFAULT = Path("runs/demo")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `convgate demo`."""
    parser.add_argument("--out", type=Path, default=_DEFAULT, help="folder to write (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="start again: delete what a run left in the folder")
    add_json(parser)
    parser.set_defaults(takes_overrides=True, resumes=True)
    parser.usage = "convgate demo [--out FOLDER] [--fresh] [--json] [--FIELD VALUE ...]"


def run(arguments: Namespace) -> None:
    """Run the demo and print where its page is."""
    import logging

    from convgate.recipes.read import check_overrides, fields_of, parse_recipe
    from convgate.recipes.request import Request

    check_overrides(arguments.overrides, also=arguments.options)
    request = Request("digits-demo", tuple(arguments.overrides))
    parse_recipe(fields_of("digits-demo"), arguments.overrides, "digits-demo", past=True)  # before torch is imported
    from convgate.runs.folder import RunFolder
    from convgate.runs.launch import train

    folder = RunFolder(arguments.out)
    # The default folder is the demo's own; in another one, a run of other settings is somebody's.
    if arguments.fresh or (arguments.out == _DEFAULT and folder.holds_other_run(request.recipe)):
        logging.getLogger(__name__).info("starting afresh in %s", arguments.out)
        folder.discard()
    finished = train(request, arguments.out, progress=is_watched())
    if finished is None:
        return
    if arguments.json:
        show(finished.finished.as_data())
        return
    show_metrics(finished.finished)
    if finished.folder.report.is_file():
        show(f"the page: {finished.folder.report}")
