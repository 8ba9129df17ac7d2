"""The commands on the page are ones that the command line takes."""

import re
from pathlib import Path

from convgate.cli import COMMANDS, parsers
from convgate.recipes.library import list_recipes

TEXT = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()


def test_every_command_is_one():
    blocks = re.findall(r"```\n(.*?)```", TEXT, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 8
    for line in lines:
        program, *arguments = line.split()
        assert program == "convgate"
        parsed, rest = parsers()[0].parse_known_args(arguments)
        assert parsed.command in {module.__name__.rpartition(".")[2] for module in COMMANDS}
        assert parsed.takes_overrides or not rest, line
        if arguments[0] in ("train", "sweep"):
            assert arguments[1].partition("@")[0] in list_recipes()  # RECIPE@CONTROL is made of RECIPE
