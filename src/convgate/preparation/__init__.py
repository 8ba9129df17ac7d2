"""From a photograph to what a network takes, and from its answer to a name. Needs NumPy alone, and Pillow for files."""

from convgate.preparation.preparation import Preparation

__all__ = ["Preparation"]
