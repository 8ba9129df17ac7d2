"""Mappings among a method's options: read-only, so that methods can be hashed and never change."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

__all__ = ["FrozenMapping", "plain"]

K = TypeVar("K")
V = TypeVar("V")


class FrozenMapping(Mapping[K, V]):
    """A read-only mapping that can be hashed, given hashable values.

    >>> FrozenMapping({8: 2}) == {8: 2}
    True
    """

    def __init__(self, entries: Mapping[K, V]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: K) -> V:
        return self._entries[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return hash(frozenset((key, _hashable(value)) for key, value in self._entries.items()))

    def __repr__(self) -> str:
        return repr(self._entries)


def plain(value: Any) -> Any:
    """Plain data, for files: mappings as dicts, and tuples as they are."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return type(value)(plain(item) for item in value) if type(value) in (list, tuple) else value


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return FrozenMapping(value)
    return tuple(_hashable(item) for item in value) if isinstance(value, list | tuple) else value
