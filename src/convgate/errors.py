"""The errors that convgate raises, one family.

Each message says what was given, what is allowed, where, and what to do about it. Catching `ConvgateError` catches
every mistake that a user can make; anything else that escapes is a bug of ours.
"""

__all__ = [
    "BudgetError",
    "CheckpointError",
    "ConvgateError",
    "DataError",
    "InputError",
    "LoweringError",
    "MissingDependencyError",
    "PlanError",
    "ProgramError",
    "RecipeError",
    "TraceError",
]


class ConvgateError(Exception):
    """Base of every error that convgate raises on purpose."""


class InputError(ConvgateError, ValueError):
    """An argument or an input tensor is not what the network or the function takes."""


class TraceError(ConvgateError):
    """A model cannot be read as a graph."""


class PlanError(ConvgateError):
    """A method cannot gate this model as asked."""


class BudgetError(ConvgateError):
    """A compute budget cannot be reached."""


class LoweringError(ConvgateError):
    """A network has operations that the engine has no native form for."""


class MissingDependencyError(ConvgateError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class ProgramError(ConvgateError):
    """A program of the engine does not hold together."""


class CheckpointError(ConvgateError):
    """A saved file is damaged, foreign, or does not fit."""


class RecipeError(ConvgateError):
    """A training recipe has an unknown key or a value of the wrong kind."""


class DataError(ConvgateError):
    """A data set is missing, incomplete or malformed."""
