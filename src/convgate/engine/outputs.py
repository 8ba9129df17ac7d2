"""What a network returns, by callers: arrays in the tuples and dicts in which the network gives them."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Outputs", "Rows", "arrange", "as_outputs"]


@dataclass(frozen=True)
class Rows:
    """Maps as the rows of one array, as detectors' heads return them.

    A map [N, A * of, H, W] holds `of` numbers for each of A anchors at each position. They are the rows of an array
    [N, H * W * A, of], one map after another; `across`, its columns: [N, of, H * W * A].

    >>> Rows((0,), of=2).of_arrays([np.arange(8).reshape(1, 4, 1, 2)])
    array([[[0, 2],
            [4, 6],
            [1, 3],
            [5, 7]]])
    """

    outputs: tuple[int, ...]
    of: int
    across: bool = False

    def of_arrays(self, arrays: Sequence[Any]) -> np.ndarray:
        """The rows of the network's outputs, by number."""
        parts = []
        for number in self.outputs:
            array = arrays[number]
            n, channels, height, width = array.shape
            cut = array.reshape(n, channels // self.of, self.of, height, width)
            parts.append(cut.transpose(0, 3, 4, 1, 2).reshape(n, -1, self.of))
        rows = np.concatenate(parts, 1)
        return np.ascontiguousarray(rows.transpose(0, 2, 1)) if self.across else rows

    def __str__(self) -> str:
        """In files: "rows of 4: 0 1 2"."""
        return f"{'columns' if self.across else 'rows'} of {self.of}: {' '.join(map(str, self.outputs))}"

    @classmethod
    def parse(cls, text: str) -> "Rows":
        """What `str` wrote. Raises `ValueError` for anything else."""
        head, _, numbers = text.partition(": ")
        kind, _, of = head.partition(" of ")
        if kind not in ("rows", "columns"):
            raise ValueError(f"{text!r} is not how outputs are arranged")
        return cls(tuple(map(int, numbers.split())), int(of), kind == "columns")


class Outputs(tuple[Any, ...]):
    """All arrays that a network returns, in order, of which the outermost dict's can be looked up by key, too.

    A tuple still: it is gone through array by array. What is a text is taken for a key, also by `in`.

    >>> outputs = as_outputs({"out": 1.0, "aux": 2.0})
    >>> outputs[0], outputs["aux"], list(outputs.keys())
    (1.0, 2.0, ['out', 'aux'])
    >>> "aux" in outputs, "head" in outputs, list(outputs)
    (True, False, [1.0, 2.0])
    """

    _named: Mapping[str, Any]

    def __getitem__(self, key: Any) -> Any:
        return self._named[key] if isinstance(key, str) else super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        # Arrays are not compared: equal ones would give an array of answers.
        return key in self._named if isinstance(key, str) else any(key is own for own in self)

    def get(self, key: str, default: Any = None) -> Any:
        """What a name stands for, or else `default`."""
        return self._named.get(key, default)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._named.keys()

    def values(self) -> ValuesView[Any]:
        """What the names stand for."""
        return self._named.values()

    def items(self) -> ItemsView[str, Any]:
        """The names with what they name."""
        return self._named.items()


def arrange(arrays: tuple[Any, ...], returns: Any) -> Any:
    """The arrays as the network returns them; `returns` is the program's."""
    if returns is None:
        return arrays[0] if len(arrays) == 1 else arrays
    return _arranged(arrays, returns)


def as_outputs(returned: Any) -> tuple[Any, ...]:
    """What `arrange` gave, array by array, with their names where there are any."""
    ordered = tuple(_leaves(returned))
    if not isinstance(returned, dict):
        return ordered
    outputs = Outputs(ordered)
    outputs._named = returned
    return outputs


def _arranged(arrays: tuple[Any, ...], returns: Any) -> Any:
    if isinstance(returns, dict):
        return {key: _arranged(arrays, part) for key, part in returns.items()}
    if isinstance(returns, tuple):
        return tuple(_arranged(arrays, part) for part in returns)
    if isinstance(returns, Rows):
        return returns.of_arrays(arrays)
    return None if returns is None else arrays[returns]


def _leaves(returned: Any) -> Iterator[Any]:
    if isinstance(returned, dict | tuple):
        for part in returned.values() if isinstance(returned, dict) else returned:
            yield from _leaves(part)
    elif returned is not None:
        yield returned
