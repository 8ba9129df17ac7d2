"""The time of an engine as a sum over its operations, each with a cost that its gates scale."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from convgate.engine import Engine
from convgate.engine.program import Program
from convgate.errors import InputError
from convgate.latency.origin import Origin
from convgate.latency.shares import Masks, Share

__all__ = ["LatencyModel", "Term", "products"]


@dataclass(frozen=True)
class Term:
    """The milliseconds of one operation.

    A convolution costs something by itself; something for each open position, input and output channel; for each
    pair of these, to read inputs, write outputs and pack weights; and for all three together, its products. So the time
    is a sum over the products of its `shares`, which are 1 where all is open: `weights` are milliseconds, at least 0,
    one for each subset of the shares, the empty one first. The operation of a term without shares always takes as long.

    `layer` is the line of the ledger that its MACs are on, or nothing.
    """

    operation: str
    layer: str
    shares: tuple[Share, ...]
    weights: tuple[float, ...]

    def milliseconds(self, masks: Masks, samples: int) -> np.ndarray:
        """For each sample, float64 [N]."""
        return products([share.of(masks) for share in self.shares], samples) @ np.asarray(self.weights)


def products(shares: Sequence[np.ndarray], samples: int) -> np.ndarray:
    """The products of all subsets of some arrays [N], the empty one first: float64 [N, 2 ** len(shares)].

    >>> products([np.array([0.5]), np.array([0.1])], 1).tolist()
    [[1.0, 0.5, 0.1, 0.05]]
    """
    subsets = itertools.chain.from_iterable(itertools.combinations(shares, size) for size in range(len(shares) + 1))
    return np.stack([np.prod([np.ones(samples), *subset], axis=0) for subset in subsets], axis=1)


@dataclass(frozen=True)
class LatencyModel:
    """How many milliseconds an engine takes for one image, given what its gates decide. Made by `fit_latency`.

    It is for the machine, the engine and the program that `origin` names. `error` is the mean distance of its
    predictions from what was measured under masks that it was not fitted to, as a share of these; `spread` how much one
    measurement differs from the next, which tells how busy the machine was: half the distance from the first to the
    third quartile as a share of the median, the mean over masks. `factor` multiplies all of it: see `scaled`.
    `handed` is how many milliseconds more a call takes that is handed masks than one whose gates decide the same; it is
    no part of the model's times, which are those of an engine that decides by itself.
    """

    origin: Origin
    terms: tuple[Term, ...]
    error: float
    spread: float
    factor: float = 1.0
    handed: float = 0.0

    def milliseconds(self, masks: Masks) -> np.ndarray:
        """Of each sample, float64 [N]; `masks` are by gate, [N, units, rows, columns] of 0 and 1.

        Masks of decisions, of a network or of an engine's run, are taken, too.
        """
        masks = self._arrays(masks)
        samples = len(next(iter(masks.values())))
        return self.factor * np.sum([term.milliseconds(masks, samples) for term in self.terms], axis=0)

    def by_layer(self, masks: Masks) -> dict[str, np.ndarray]:
        """The same by layer of the ledger, float64 [N] each; all else, gates' heads included, under ""."""
        masks = self._arrays(masks)
        samples = len(next(iter(masks.values())))
        found: dict[str, np.ndarray] = {}
        for term in self.terms:
            spent = self.factor * term.milliseconds(masks, samples)
            found[term.layer] = found.get(term.layer, 0.0) + spent
        return found

    def scaled(self, factor: float) -> "LatencyModel":
        """The model with all times multiplied, where a measurement says that it is off by a factor."""
        if not (math.isfinite(factor) and factor > 0):
            raise InputError(f"scaled({factor}): give a factor above 0")
        return replace(self, factor=self.factor * factor)

    def range(self, program: Program) -> tuple[float, float]:
        """(milliseconds with every gate closed, with every gate open)."""
        closed, opened = (
            {gate.name: np.full((1, *gate.shape), value, np.uint8) for gate in program.gates} for value in (0, 1)
        )
        return float(self.milliseconds(closed)[0]), float(self.milliseconds(opened)[0])

    def check_for(self, engine: Engine) -> None:
        """Raise `InputError` if the model is for something else than this engine on this machine."""
        differs = self.origin.differences(Origin.of(engine, self.origin.clock))
        if differs:
            raise InputError(
                f"the latency model is for another engine or machine: {'; '.join(differs)}. Fit one for this engine: "
                "convgate.latency.fit_latency(engine)"
            )

    @staticmethod
    def _arrays(masks: Mapping[str, object]) -> dict[str, np.ndarray]:
        numpy = getattr(masks, "numpy", None)
        if numpy is not None:
            return dict(numpy())
        return {name: np.asarray(getattr(mask, "mask", mask)) for name, mask in masks.items()}
