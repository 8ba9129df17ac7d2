"""Make a graph that was captured for one number of images hold for any.

Where the model's code asks for the number of images as a number of Python (`int(x.shape[0])`, `len(x)`), the graph gets
constants that hold for one batch. Such a model is captured at several batch sizes. Its graphs must have the same nodes,
and each number that differs must be one linear function of the batch size, `a * N + c`; that is put in its place.
"""

import operator
from collections.abc import Sequence
from typing import Any

from torch import fx

from convgate.reading.values import Values

__all__ = ["generalise"]


class _DifferError(Exception):
    """The graphs differ in more than in numbers that follow the batch size."""


def generalise(graph: fx.Graph, values: Values, batch: int, others: Sequence[tuple[int, fx.Graph]]) -> bool:
    """Replace in `graph`, the numbers that follow the batch size; returns False where it cannot be done.


    Args:
        graph: captured for `batch` images; changed in place.
        values: of its nodes; gets those of the new ones.
        batch: its number of images.
        others: further batch sizes, at least two, and the graphs captured for them.

    """
    merged = _Merge(graph, values, (batch, *(size for size, _ in others)))
    graphs = [list(g.nodes) for g in (graph, *(g for _, g in others))]
    try:
        if len({len(nodes) for nodes in graphs}) > 1:
            raise _DifferError
        for nodes in zip(*graphs, strict=True):
            if len({(node.op, node.target, node.name) for node in nodes}) > 1:
                raise _DifferError
            nodes[0].args = merged([node.args for node in nodes])
            nodes[0].kwargs = merged([node.kwargs for node in nodes])
    except _DifferError:
        return False
    return True


class _Merge:
    """Arguments of the same node in several graphs, made into those that hold for any number of images."""

    def __init__(self, graph: fx.Graph, values: Values, batches: Sequence[int]) -> None:
        self._values, self._batches = values, batches
        self._graph, self._last = graph, next(iter(graph.nodes))
        self._images = self._last
        self._known: dict[Any, fx.Node] = {}

    def __call__(self, parts: Sequence[Any]) -> Any:
        first = parts[0]
        if len({type(part) for part in parts}) > 1:
            raise _DifferError
        if isinstance(first, fx.Node):
            return self._equal(first, [part.name for part in parts])
        if isinstance(first, tuple | list):
            self._equal(first, [len(part) for part in parts])
            items = [self(columns) for columns in zip(*parts, strict=True)]
            return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
        if isinstance(first, dict):
            self._equal(first, [list(part) for part in parts])
            return {key: self([part[key] for part in parts]) for key in first}
        if isinstance(first, slice):
            return slice(*(self([getattr(part, name) for part in parts]) for name in ("start", "stop", "step")))
        if type(first) in (int, float) and any(part != first for part in parts):
            return self._linear(parts)
        return self._equal(first, parts)

    def _equal(self, first: Any, keys: Sequence[Any]) -> Any:
        if any(key != keys[0] for key in keys):
            raise _DifferError
        return first

    def _linear(self, numbers: Sequence[Any]) -> fx.Node:
        """The node that computes a number from the batch size."""
        factor = (numbers[1] - numbers[0]) / (self._batches[1] - self._batches[0])
        factor = type(numbers[0])(factor)
        offset = numbers[0] - factor * self._batches[0]
        if any(factor * n + offset != number for n, number in zip(self._batches, numbers, strict=True)):
            raise _DifferError
        size = self._node(operator.getitem, self._node(getattr, self._images, "shape"), 0)
        if factor != 1 or isinstance(factor, float):
            size = self._node(operator.mul, size, factor)
        return self._node(operator.add, size, offset) if offset else size

    def _node(self, function: Any, *args: Any) -> fx.Node:
        """A node right behind the images, made once."""
        key = (function, *args, type(args[-1]))
        if key not in self._known:
            with self._graph.inserting_after(self._last):
                node = self._graph.call_function(function, args)
            self._values.add(node, self._values.evaluate("call_function", function, args, {}))
            self._known[key] = self._last = node
        return self._known[key]
