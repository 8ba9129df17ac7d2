"""What a misspelt name may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The part of an error message that names the closest of the known names: "; did you mean x?", or ".".

    >>> did_you_mean("digit-demo", ["digits-demo", "mine"])
    '; did you mean digits-demo?'
    """
    closest = get_close_matches(name, list(known), n=1)
    return f"; did you mean {closest[0]}?" if closest else "."
