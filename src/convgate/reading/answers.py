"""Answers to what a model's Python code asks about its tensors, and whether they hold for every number of images.

An answer is found at the example's batch size and tried at others: at one image more and, where numbers are made of
numbers or a decision is taken, at 1 and 64 images.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from convgate.reading.values import FakeModule, Values

__all__ = ["PROBES", "Answers"]

PROBES = (1, 64)
"""Further batch sizes at which a decision on the batch size is tried before it is taken."""


class Answers:
    """The values of a graph that is being recorded, at the example's batch size and at others.

    Attributes:
        batch: the number of images, at least 2: norms refuse a batch of one map of 1x1 in training.
        values: of each node recorded so far, for that many images.
        evaluating: whether an operation is being computed on fake tensors, which must not be recorded.
        fixed: whether answers hold for `batch` images alone, since the code has been told that number.

    """

    def __init__(self, fakes: FakeModule, shape: tuple[int, ...], like: Tensor, batch: int | None = None) -> None:
        self._fakes, self._shape, self._like = fakes, shape, like
        self.batch = batch or max(shape[0], 2)
        self.values = self._at(self.batch)
        self._others: dict[int, Values | None] = {}
        self.evaluating = False
        self.fixed = False

    def for_batch(self, batch: int) -> "Answers":
        """Answers for another number of images, about the same model."""
        return Answers(self._fakes, self._shape, self._like, batch)

    def _at(self, batch: int) -> Values:
        return Values(self._fakes, self._fakes.tensor((batch, *self._shape[1:]), self._like))

    def evaluate(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """What an operation returns at the example's batch size."""
        return self._evaluated(self.values, kind, target, args, kwargs)

    def is_for_any_batch(self, value: Any, graph: fx.Graph, kind: str, target: Any, args: Any, kwargs: Any) -> bool:
        """Whether an operation returns the plain `value` for every number of images."""
        numbers: list[bool] = []
        fx.node.map_arg((args, kwargs), lambda node: numbers.append(isinstance(self.values[node], int | float)))

        def again(values: Values) -> Any:
            return self._evaluated(values, kind, target, args, kwargs)

        # Numbers of which the code makes others depend on the batch already: those are tried more often.
        return self.agree(value, graph, again, often=any(numbers))

    def agree(self, answer: Any, graph: fx.Graph, again: Callable[[Values], Any], *, often: bool) -> bool:
        """Whether `again` gives the same answer at other batch sizes; those that the model does not take are left out.

        `often` tries one image and 64, too. From when answers are `fixed`, all are taken to be the same.
        """
        if self.fixed:
            return True
        for batch in (self.batch + 1, *(PROBES if often else ())):
            if batch not in self._others:
                self._others[batch] = self._at(batch)
            values = self._others[batch]
            if values is None or batch == self.batch:
                continue
            self.evaluating = True
            try:
                values.catch_up(graph)
                differs = not _same(again(values), answer)
            except Exception:  # noqa: BLE001 -- for any reason: the model takes no such batch
                self._others[batch] = None
                continue
            finally:
                self.evaluating = False
            if differs:
                return False
        return True

    def _evaluated(self, values: Values, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        self.evaluating = True
        try:
            return values.evaluate(kind, target, args, kwargs)
        finally:
            self.evaluating = False


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)
