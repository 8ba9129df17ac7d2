"""How many of a gate's units depend on the image at all: some open for every image, some for none."""

from dataclasses import dataclass

import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.gating import Decisions, GateKind

__all__ = ["Census", "GateCensus", "census"]


@dataclass(frozen=True)
class GateCensus:
    """What one gate's units (tiles, channel groups, activations) did over a data set.

    Each of the `units` was open for all images (`always_on`), for none (`always_off`), or for some
    (`input_dependent`); `density` is the mean open share, in [0, 1].
    """

    kind: GateKind
    units: int
    always_on: int
    always_off: int
    input_dependent: int
    density: float


class Census:
    """Counts over batches: keeps two bits for each unit of each gate, however many images there are.

    >>> import torch
    >>> from convgate.gating import Decision, Decisions, Tiles
    >>> running = Census()
    >>> running.add(Decisions({"gate": Decision(Tiles((2, 2)), torch.ones(8, 1, 2, 2))}))
    >>> running.gates()["gate"].always_on
    4
    """

    def __init__(self) -> None:
        self._gates: dict[str, _Running] = {}

    def add(self, decisions: Decisions) -> None:
        """Count the decisions of one more batch of the same network."""
        for name, decision in decisions.items():
            open_ = decision.mask.detach().flatten(1) > 0
            if name not in self._gates:
                self._gates[name] = _Running(decision.kind, open_)
            else:
                self._gates[name].add(open_)

    def gates(self) -> dict[str, GateCensus]:
        """Gate name -> its census so far, in the order of the decisions. Raises `InputError` if there are none."""
        if not self._gates:
            raise InputError("the census counted no decisions; add() those of at least one batch")
        return {name: running.counted() for name, running in self._gates.items()}


class _Running:
    def __init__(self, kind: GateKind, open_: Tensor) -> None:
        self.kind = kind
        self.ever_closed = torch.zeros(open_.shape[1], dtype=torch.bool, device=open_.device)
        self.ever_open = torch.zeros_like(self.ever_closed)
        self.images, self.openings = 0, 0
        self.add(open_)

    def add(self, open_: Tensor) -> None:
        self.ever_open |= open_.any(0)
        self.ever_closed |= ~open_.all(0)
        self.images += len(open_)
        self.openings += int(open_.sum())

    def counted(self) -> GateCensus:
        units = len(self.ever_open)
        on, off = int((~self.ever_closed).sum()), int((~self.ever_open).sum())
        return GateCensus(self.kind, units, on, off, units - on - off, self.openings / (units * self.images))


def census(decisions: Decisions) -> dict[str, GateCensus]:
    """Gate name -> its census over the batch, in the order of the decisions."""
    running = Census()
    running.add(decisions)
    return running.gates()
