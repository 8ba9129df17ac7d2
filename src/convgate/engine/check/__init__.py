"""Does a program hold together? Every rule that the runtime relies on, with errors that name the operation."""

from convgate.engine.check.checker import MOST_POSITIONS
from convgate.engine.check.program import check

__all__ = ["MOST_POSITIONS", "check"]
