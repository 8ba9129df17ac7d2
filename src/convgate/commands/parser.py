"""The parser of the command line: nothing is guessed, and a mistake is answered in one line."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from convgate.suggestions import did_you_mean

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """argparse's parser without prefix matching; its descriptions keep their line breaks.

    Errors take one line on stderr, without the usage in front of it, and status 2.
    """

    def __init__(self, **how: Any) -> None:
        how = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **how}
        super().__init__(**how)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is; exit."""
        self.exit(2, f"{self.prog}: {message}. `{self.prog} --help` describes it\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check choices as argparse does, with a suggestion."""
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            meant = did_you_mean(str(value), choices)
            raise argparse.ArgumentError(action, f"there is no '{value}'{meant} Choose from {', '.join(choices)}")

    @property
    def options(self) -> list[str]:
        """The options as they are written, e.g. "--out", with those of the parser's own commands."""
        below = [action.choices.values() for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return [*self._option_string_actions, *(option for own in below for parser in own for option in parser.options)]

    def check_command(self, arguments: Sequence[str], commands: Sequence[str], elsewhere: Mapping[str, str]) -> None:
        """Exit with a suggestion if the first argument is not one of the commands (or an option).

        `elsewhere`: what names that are no commands are called here.
        """
        given = arguments[0] if arguments else ""
        if given and not given.startswith("-") and given not in commands:
            known = elsewhere.get(given)
            meant = f"; that is `{self.prog} {known}`." if known else did_you_mean(given, commands)
            self.exit(2, f"{self.prog}: there is no command '{given}'{meant} The commands are: {', '.join(commands)}\n")

    def chosen(self, arguments: argparse.Namespace) -> "Parser":
        """The parser of the command of its own that the arguments name, down to the last; itself without one."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and getattr(arguments, action.dest, None):
                below: Parser = action.choices[getattr(arguments, action.dest)]
                return below.chosen(arguments)
        return self

    def refuse(self, left: Sequence[str]) -> NoReturn:
        """Exit with a suggestion for the first of the arguments that the parser did not take."""
        first = left[0].partition("=")[0]
        if not first.startswith("-"):
            self.exit(2, f"{self.prog}: '{first}' is one argument too many. `{self.prog} --help` lists them\n")
        meant = did_you_mean(first, self.options)
        self.exit(2, f"{self.prog}: there is no option {first}{meant} `{self.prog} --help` lists them\n")
