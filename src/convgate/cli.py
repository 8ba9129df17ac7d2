"""The command line: `convgate COMMAND`. Each command is a module in `convgate.commands`."""

import argparse
import sys
from collections.abc import Sequence

from convgate.commands import (
    bench,
    compare,
    demo,
    evaluate,
    hardware,
    plan,
    predict,
    recipe,
    report,
    results,
    sweep,
    train,
)
from convgate.commands import compile as compile_
from convgate.commands.console import log_to_stderr
from convgate.errors import ConvgateError
from convgate.extras import missing

__all__ = ["main"]

COMMANDS = (demo, plan, train, evaluate, report, compare, sweep, compile_, predict, hardware, results, bench, recipe)

_DESCRIPTION = """\
Convolutional networks that decide, for each image, which channels and regions to compute.

Start with `convgate demo`: in a few minutes a real network learns to skip half of its work, and a page of pictures
shows what it learned. Everything here can also be done from Python; see the README.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 for a mistake that the message explains."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.takes_overrides:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.overrides = rest
    log_to_stderr()
    try:
        arguments.run(arguments)
    except (ConvgateError, OSError) as error:
        print(f"convgate {arguments.command}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except ModuleNotFoundError as error:
        explained = missing(error)
        if explained is None:
            raise
        print(f"convgate {arguments.command}: {explained}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        more = "; the same command continues where this one stopped" if arguments.resumes else ""
        print(f"interrupted{more}", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    from convgate import __version__

    parser = argparse.ArgumentParser(
        prog="convgate",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"convgate {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        summary, _, details = (module.__doc__ or "").partition("\n\n")
        command = commands.add_parser(
            name,
            help=summary.rstrip("."),
            description=f"{summary}\n\n{details}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # an option that is not known may be a field of a recipe, and is never guessed
        )
        command.set_defaults(run=module.run, takes_overrides=False, resumes=False)
        module.add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
