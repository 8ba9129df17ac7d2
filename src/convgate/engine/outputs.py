"""What a network returns, by callers: arrays in the tuples and dicts in which the network gives them."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping
from typing import Any

__all__ = ["Outputs", "arrange", "as_outputs"]


class Outputs(tuple[Any, ...]):
    """All arrays that a network returns, in order, of which the outermost dict's can be looked up by key, too.

    >>> outputs = as_outputs((1.0, 2.0), {"out": 0, "aux": 1})
    >>> outputs[0], outputs["aux"], list(outputs.keys())
    (1.0, 2.0, ['out', 'aux'])
    """

    _named: Mapping[str, Any]

    def __getitem__(self, key: Any) -> Any:
        return self._named[key] if isinstance(key, str) else super().__getitem__(key)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._named.keys()

    def items(self) -> ItemsView[str, Any]:
        """The names with what they name."""
        return self._named.items()


def arrange(arrays: tuple[Any, ...], returns: Any) -> Any:
    """The arrays as the network returns them; `returns` is the program's."""
    if returns is None:
        return arrays[0] if len(arrays) == 1 else arrays
    return _arranged(arrays, returns)


def as_outputs(arrays: tuple[Any, ...], returns: Any) -> tuple[Any, ...]:
    """The arrays one after another as the network returns them, with their names where there are any."""
    ordered = arrays if returns is None else tuple(arrays[number] for number in _numbers(returns))
    if not isinstance(returns, dict):
        return ordered
    outputs = Outputs(ordered)
    outputs._named = _arranged(arrays, returns)
    return outputs


def _arranged(arrays: tuple[Any, ...], returns: Any) -> Any:
    if isinstance(returns, dict):
        return {key: _arranged(arrays, part) for key, part in returns.items()}
    if isinstance(returns, tuple):
        return tuple(_arranged(arrays, part) for part in returns)
    return None if returns is None else arrays[returns]


def _numbers(returns: Any) -> Iterator[int]:
    if isinstance(returns, dict | tuple):
        for part in returns.values() if isinstance(returns, dict) else returns:
            yield from _numbers(part)
    elif returns is not None:
        yield returns
