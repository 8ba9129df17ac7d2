"""What a model's Python code sees while it is captured: proxies for tensors, and shapes that hold proxies."""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx

__all__ = ["Proxy", "Shape", "holds_proxy", "is_plain"]


class Proxy(fx.Proxy):
    """A tensor in the model's code (or a number that depends on the batch size)."""

    tracer: Any  # convgate.reading.tracer.Tracer, which makes proxies

    def __getattr__(self, name: str) -> Any:
        return self.tracer.attribute(self, name)

    def __iter__(self) -> Iterator[Any]:
        return iter([operator.getitem(self, index) for index in range(len(self))])

    def __len__(self) -> int:
        return self._ask("its length", len)

    def __bool__(self) -> bool:
        return self._ask("whether it is true", bool)

    def __int__(self) -> int:
        return self._ask("its value as an int", int)

    def __index__(self) -> int:
        return self._ask("its value as an int", int)

    def __float__(self) -> float:
        return self._ask("its value as a float", float)

    def __contains__(self, item: Any) -> bool:
        return any(bool(item == own) for own in self)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.refuse("assigns to a part of a tensor, which a graph cannot carry; use torch.where or torch.cat")

    def keys(self) -> Any:
        return self.tracer.attribute(self, "keys")()

    def _ask(self, what: str, convert: Callable[[Any], Any]) -> Any:
        return self.tracer.ask(self, what, convert)


class Shape(tuple):
    """A tensor's shape: like `torch.Size`, but the batch size in it may be a proxy."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        if not isinstance(index, slice):
            return part
        return Shape(part) if holds_proxy(part) else torch.Size(part)

    def numel(self) -> Any:
        """How many elements a tensor of this shape has."""
        product: Any = 1
        for length in self:
            product = product * length
        return product


def is_plain(value: Any) -> bool:
    """Whether a value is Python's own (a number, a shape, a text), so that code may be told it outright."""
    if isinstance(value, tuple | list):
        return all(is_plain(part) for part in value)
    return isinstance(value, bool | int | float | complex | str | torch.memory_format | torch.layout | slice)


def holds_proxy(values: Any) -> bool:
    """Whether there is a proxy in nested tuples, lists and dicts."""
    if isinstance(values, dict):
        return any(holds_proxy(value) for value in values.values())
    if isinstance(values, tuple | list):
        return any(holds_proxy(value) for value in values)
    if isinstance(values, slice):
        return holds_proxy((values.start, values.stop, values.step))
    return isinstance(values, fx.Proxy)
