"""Run a network over a data set once: predictions, and for a gated network what each image cost.

Nothing that grows with the data is kept but three numbers for each image (the predicted and the true class, the MACs):
decisions are counted batch by batch. Ask the network again for the decisions of the images that you want to see.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convgate.analysis.census import Census, GateCensus
from convgate.errors import InputError
from convgate.gated import FixedNetwork, GatedNetwork
from convgate.reading.modes import evaluating

__all__ = ["Evaluation", "Spending", "evaluate"]

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)
"""Of the images' shares of the dense MACs; the 100th is the dearest image."""


@dataclass(frozen=True, eq=False)
class Spending:
    """What a gated network spent on each image of a data set.

    Attributes:
        macs: MACs of each image, gates included, int64 [N].
        dense: the ungated network's MACs per image; of images of several sizes, their mean.
        by_layer: the mean MACs of each layer and gate.
        census: gate name -> how its units behaved over the images.
        of_own_size: the share that each image spent of what its own size costs, float64 [N]; None where all images are
            of one size.
        dense_by_layer: the mean MACs of each layer of the ungated network; None where all images are of one size.

    """

    macs: Tensor
    dense: int
    by_layer: Mapping[str, float]
    census: Mapping[str, GateCensus]
    of_own_size: Tensor | None = None
    dense_by_layer: Mapping[str, float] | None = None

    @property
    def shares(self) -> Tensor:
        """The share of the dense MACs that each image spent, float64 [N]."""
        return self.macs.double() / self.dense if self.of_own_size is None else self.of_own_size

    @property
    def ratio(self) -> float:
        """Mean share of the dense MACs."""
        return float(self.macs.double().mean()) / self.dense if self.of_own_size is None else float(self.shares.mean())

    @property
    def changing(self) -> float:
        """The share of all gates' units that are open for some of the images and closed for others, in [0, 1]."""
        units = sum(gate.units for gate in self.census.values())
        return sum(gate.input_dependent for gate in self.census.values()) / units

    @property
    def percentiles(self) -> dict[str, float]:
        """Percentiles over images of the share of the dense MACs: {"5": .., "25": .., ..}."""
        return {str(p): float(torch.quantile(self.shares, p / 100)) for p in PERCENTILES}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predicted and true classes, int64 [N] each, and what a gated network spent (None for another)."""

    predictions: Tensor
    labels: Tensor
    spending: Spending | None = None

    metric: ClassVar[str] = "accuracy"

    @property
    def images(self) -> int:
        """How many images there were."""
        return len(self.labels)

    @property
    def scores(self) -> Mapping[str, float]:
        """Name -> value, as of other tasks."""
        return {self.metric: self.accuracy}

    @property
    def correct(self) -> Tensor:
        """Which images are classified right, bool [N]."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        """Share of images classified right, in [0, 1]."""
        return float(self.correct.double().mean())


@torch.no_grad()
def evaluate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
) -> Evaluation:
    """Run `network` in evaluation mode over `batches` of (images, labels); its mode is restored afterwards.

    Args:
        network: images -> logits [N, classes]; a `GatedNetwork` is also accounted for, and so is a `FixedNetwork`.
        batches: images as `prepare` takes them, labels int64 [N].
        prepare: what turns a batch's images into the network's input, e.g. normalisation.

    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    predictions, labels = [], []
    account = _Account(network) if isinstance(network, GatedNetwork | FixedNetwork) else None
    with evaluating(network):
        for images, truth in batches:
            x = prepare(images.to(device))
            logits = network(x) if account is None else account.run(x)
            predictions.append(logits.argmax(1).cpu())
            labels.append(truth.cpu())
    if not labels:
        raise InputError("evaluate() was given no batches; give at least one")
    return Evaluation(torch.cat(predictions), torch.cat(labels), None if account is None else account.spending())


class _Account:
    """What a gated network spends, added up batch by batch."""

    def __init__(self, network: GatedNetwork | FixedNetwork) -> None:
        self.network = network
        self.macs: list[Tensor] = []
        self.by_layer: dict[str, int] = {}
        self.census = Census()

    def run(self, x: Tensor) -> Tensor:
        logits, decisions = self.network.decide(x)
        cost = self.network.cost(decisions)
        self.macs.append(cost.macs.cpu())
        for name, spent in cost.by_layer.items():
            self.by_layer[name] = self.by_layer.get(name, 0) + int(spent.sum())
        self.census.add(decisions)
        return logits

    def spending(self) -> Spending:
        macs = torch.cat(self.macs)
        means = {name: spent / len(macs) for name, spent in self.by_layer.items()}
        return Spending(macs, self.network.ledger.dense, means, self.census.gates())
