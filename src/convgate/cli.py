"""The command line: `convgate COMMAND`. Each command is a module in `convgate.commands`."""

import sys
from collections.abc import Sequence

from convgate.commands import (
    bench,
    calibrate,
    compare,
    demo,
    evaluate,
    export,
    figure,
    finetune,
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
from convgate.commands.parser import Parser
from convgate.errors import ConvgateError
from convgate.extras import missing

__all__ = ["main", "parsers"]

COMMANDS = (
    demo,
    plan,
    finetune,
    train,
    evaluate,
    report,
    figure,
    compare,
    sweep,
    calibrate,
    compile_,
    export,
    predict,
    hardware,
    results,
    bench,
    recipe,
)

_ELSEWHERE = {
    "quantize": "compile --precision int8 --images FOLDER",
    "gate": "finetune",
    "prune": "finetune",
    "profile": "bench",
    "benchmark": "bench",
    "test": "evaluate",
    "onnx": "export",
}
# What other tools call it.

_DESCRIPTION = """\
Convolutional networks that decide, for each image, which channels and regions to compute.

Start with `convgate demo`: in a few minutes a real network learns to skip half of its work, and a page of pictures
shows what it learned. Everything here can also be done from Python; see the README.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments, without the program's name; None for those of the process.

    Returns:
        The exit status: 0; 2 for a mistake that the message on stderr explains; 130 after Ctrl-C.

    """
    given = list(sys.argv[1:] if argv is None else argv)
    parser, commands = parsers()
    parser.check_command(given, list(commands), _ELSEWHERE)
    arguments, rest = parser.parse_known_args(given)
    command = commands[arguments.command]
    if rest and not arguments.takes_overrides:
        command.chosen(arguments).refuse(rest)
    arguments.overrides, arguments.options = rest, command.options
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


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the command line, and those of the commands by name."""
    from convgate import __version__

    parser = Parser(prog="convgate", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"convgate {__version__}")
    adding = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    commands = {}
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        summary, _, details = (module.__doc__ or "").partition("\n\n")
        command = adding.add_parser(name, help=summary.rstrip("."), description=f"{summary}\n\n{details}")
        command.set_defaults(run=module.run, takes_overrides=False, resumes=False)
        module.add_arguments(command)
        commands[name] = command
    return parser, commands


if __name__ == "__main__":
    sys.exit(main())
