"""From a network to a program."""

from convgate.engine.lowering.lower import Lowered, lower

__all__ = ["Lowered", "lower"]
