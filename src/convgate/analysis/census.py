"""How many of a gate's units depend on the image at all: some open for every image, some for none."""

from dataclasses import dataclass

import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.gating import Decision, Decisions, GateKind

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
    """Counts over batches: keeps a number for each unit of each gate, however many images there are.

    >>> import torch
    >>> from convgate.gating import Decision, Decisions, Tiles
    >>> running = Census()
    >>> running.add(Decisions({"gate": Decision(Tiles((2, 2)), torch.ones(8, 1, 2, 2))}))
    >>> running.gates()["gate"].always_on
    4
    """

    def __init__(self) -> None:
        self._gates: dict[str, _Running] = {}
        self._size: tuple[int, int] | None = None

    def add(self, decisions: Decisions) -> None:
        """Count the decisions of one more batch of the same network."""
        self._size = decisions.size
        for name, decision in decisions.items():
            if name not in self._gates:
                self._gates[name] = _Running(decision.kind, decision.mask.shape)
            self._gates[name].add(decision.mask.detach() > 0)

    @property
    def images(self) -> int:
        """How many images were counted."""
        return next(iter(self._gates.values())).images if self._gates else 0

    def majority(self) -> Decisions:
        """Masks for one image in which a unit is open if it was for more than half of the images.

        Raises `InputError` if there are none.
        """
        self._check()
        majorities = {
            name: Decision(r.kind, (2 * r.openings > r.images)[None].float()) for name, r in self._gates.items()
        }
        return Decisions(majorities, self._size)

    def gates(self) -> dict[str, GateCensus]:
        """Gate name -> its census so far, in the order of the decisions. Raises `InputError` if there are none."""
        self._check()
        return {name: running.counted() for name, running in self._gates.items()}

    def _check(self) -> None:
        if not self._gates:
            raise InputError("the census counted no decisions; add() those of at least one batch")


class _Running:
    """How often each unit of a gate was open."""

    def __init__(self, kind: GateKind, shape: torch.Size) -> None:
        self.kind = kind
        self.openings = torch.zeros(shape[1:], dtype=torch.int64)
        self.images = 0

    def add(self, open_: Tensor) -> None:
        if open_.shape[1:] != self.openings.shape:
            raise InputError(
                f"a mask of {list(open_.shape[1:])} units after masks of {list(self.openings.shape)}: a census is of "
                "images of one size"
            )
        self.openings = self.openings.to(open_.device) + open_.sum(0)
        self.images += len(open_)

    def counted(self) -> GateCensus:
        units = self.openings.numel()
        on, off = int((self.openings == self.images).sum()), int((self.openings == 0).sum())
        density = int(self.openings.sum()) / (units * self.images)
        return GateCensus(self.kind, units, on, off, units - on - off, density)


def census(decisions: Decisions) -> dict[str, GateCensus]:
    """Gate name -> its census over the batch, in the order of the decisions."""
    running = Census()
    running.add(decisions)
    return running.gates()
