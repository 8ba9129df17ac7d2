"""Which values share a scale: those that must, and residual sums with their shortcuts, where their ranges are alike."""

from collections.abc import Iterable, Mapping

__all__ = ["MOST_APART", "joined", "tied"]

MOST_APART = 8.0
"""How many times as large as another's the range of a value may be for one scale to serve both.

The smaller one then has five of eight bits.
"""


def joined(groups: Mapping[str, frozenset[str]], pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """`groups`, by value, with those of each pair of values made one."""
    found = dict(groups)
    for one, other in pairs:
        together = found[one] | found[other]
        found |= dict.fromkeys(together, together)
    return found


def tied(
    groups: Mapping[str, frozenset[str]], shortcuts: Iterable[tuple[str, str]], greatest: Mapping[str, float]
) -> dict[str, frozenset[str]]:
    """`groups` with each residual sum in that of its shortcut, unless their ranges are too far apart.

    What blocks add up may grow from block to block: what counts is how far apart the ranges of the whole group are.

    Args:
        groups: by value, those that share its scale in any case.
        shortcuts: (shortcut, sum), in the order of the program.
        greatest: by value, the greatest magnitude that was seen; one of 0, of which nothing is known, goes with any.

    """
    found = dict(groups)
    for pair in shortcuts:
        together = joined(found, [pair])
        seen = [greatest[name] for name in together[pair[0]] if greatest[name] > 0]
        if not seen or max(seen) <= MOST_APART * min(seen):
            found = together
    return found
