"""What finetuning came to."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from convgate.finetuning.judge import Judgement
from convgate.gated import GatedNetwork, gate_weights

__all__ = ["Finetuned"]


@dataclass
class Finetuned:
    """What finetuning came to.

    `before` and `after` were measured on images that were not trained on, where the batches could be divided; `kept`
    maps 0.99, 0.98 and 0.95 to the smallest share of the MACs at which that many answers stay (None: at none tried), by
    the `curve`. All points of the curve were measured on the same images: the first 128 or so of those that are judged
    by if `on_the_way`, as the network came down; all of them otherwise, afterwards, by calibration. `about` is what the
    caller said of the network and its images.
    """

    network: GatedNetwork
    budget: float
    before: Judgement
    after: Judgement
    curve: list[Judgement]
    kept: dict[float, float | None]
    steps: int
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    about: Mapping[str, Any] = field(default_factory=dict)
    on_the_way: bool = False

    def as_data(self) -> dict[str, Any]:
        """Everything but the network, as plain data."""
        return {
            "budget": self.budget,
            "before": dataclasses.asdict(self.before),
            "after": dataclasses.asdict(self.after),
            "curve": [dataclasses.asdict(point) for point in self.curve],
            "kept": {str(key): value for key, value in self.kept.items()},
            "steps": self.steps,
            "seconds": self.seconds,
            "gates": dataclasses.asdict(gate_weights(self.network)),
            "about": dict(self.about),
            "history": self.history,
        }
