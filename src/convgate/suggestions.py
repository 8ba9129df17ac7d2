"""What a misspelt name may have meant, and which name another spelling of it stands for."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["closest", "did_you_mean", "same_name"]


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """The part of an error message that names the closest of the known names: "; did you mean x?", or ".".

    Args:
        name: what was given.
        known: the names that there are.
        most: how many of them to suggest, at most.

    >>> did_you_mean("digit-demo", ["digits-demo", "mine"])
    '; did you mean digits-demo?'
    >>> did_you_mean("demo", ["digits-demo", "mine"])
    '; did you mean digits-demo?'
    """
    spellings = {spelling: other for other in known for spelling in (_bare(other), other.lower())}
    closest = [spellings[s] for s in get_close_matches(name.lower(), list(spellings), n=2 * most)]
    if not closest and len(name) > 2:
        closest = sorted((other for s, other in spellings.items() if name.lower() in s), key=len)
    meant = list(dict.fromkeys(closest))[:most]
    return f"; did you mean {' or '.join(meant)}?" if meant else "."


def closest(name: str, known: Iterable[str]) -> str:
    """The question whether one of the known names that are spelled nearly so was meant; "" where none is.

    For names of modules and nodes, in which case and dashes matter.

    >>> closest("layer3.1", ["layer3.0", "layer3.2", "fc"]), closest("x", ["fc"])
    ("did you mean 'layer3.2' or 'layer3.0'?", '')
    """
    close = get_close_matches(name, list(known), 3)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else ""


def same_name(name: str, known: Iterable[str]) -> str | None:
    """The known name of which `name` is another spelling: in other case, with "-" or "_", or without "Gating".

    None where no known name fits, or several do.

    >>> same_name("dual", ["DualGating", "BatchShaping"]), same_name("batch-shaping", ["DualGating", "BatchShaping"])
    ('DualGating', 'BatchShaping')
    """
    fitting = [other for other in known if _bare(other) == _bare(name)]
    return fitting[0] if len(fitting) == 1 else None


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").removesuffix("gating")
