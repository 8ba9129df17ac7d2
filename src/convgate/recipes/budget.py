"""Budgets as they are written: a share of the dense MACs, 0.5, or milliseconds on this machine, 5ms."""

import re
from typing import Any

from convgate.errors import RecipeError

__all__ = ["budget_fields"]

_MILLISECONDS = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*ms\s*")


def budget_fields(written: Any) -> dict[str, Any]:
    """The fields of a recipe, `budget` and `milliseconds`, that a budget as it is written sets.

    Anything but a text is left to the recipe to check. Raises `RecipeError` for a text that is no budget.

    >>> budget_fields("5ms"), budget_fields(0.4)
    ({'budget': None, 'milliseconds': 5.0}, {'budget': 0.4, 'milliseconds': None})
    """
    if not isinstance(written, str):
        return {"budget": written, "milliseconds": None}
    found = _MILLISECONDS.fullmatch(written)
    if found is None:
        raise RecipeError(f"budget {written!r}: write a share of the dense MACs (0.5) or milliseconds (5ms)")
    return {"budget": None, "milliseconds": float(found[1])}
