"""How many of a gate's units depend on the image at all: some open for every image, some for none."""

from dataclasses import dataclass

from convgate.gating import Decision, Decisions, GateKind

__all__ = ["GateCensus", "census"]


@dataclass(frozen=True)
class GateCensus:
    """What one gate's units (tiles or channel groups) did over a data set.

    Each of the `units` was open for all images (`always_on`), for none (`always_off`), or for some
    (`input_dependent`); `density` is the mean open share, in [0, 1].
    """

    kind: GateKind
    units: int
    always_on: int
    always_off: int
    input_dependent: int
    density: float


def census(decisions: Decisions) -> dict[str, GateCensus]:
    """Gate name -> its census over the batch, in the order of the decisions."""
    return {name: _count(decision) for name, decision in decisions.items()}


def _count(decision: Decision) -> GateCensus:
    open_ = decision.mask.detach().flatten(1) > 0
    on, off = int(open_.all(0).sum()), int((~open_).all(0).sum())
    units = open_.shape[1]
    return GateCensus(decision.kind, units, on, off, units - on - off, float(open_.double().mean()))
