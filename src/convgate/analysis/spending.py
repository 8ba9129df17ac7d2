"""What a gated network spends on the images of a data set."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convgate.analysis.census import Census, GateCensus
from convgate.gated import FixedNetwork, GatedModel, GatedNetwork

__all__ = ["Account", "Spending"]

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


class Account:
    """Runs a gated network on one batch after another, and adds up what it spends.

    `of_own_size` says that images may be of several sizes: what each spends is then a share of what the ungated network
    spends on that size, and units, of which there are as many as a size has tiles, are not counted.
    """

    def __init__(self, network: GatedNetwork | GatedModel | FixedNetwork, *, of_own_size: bool = False) -> None:
        self.network = network
        self.macs: list[Tensor] = []
        self.dense: list[Tensor] = []
        self.by_layer = Counter[str]()
        self.dense_by_layer = Counter[str]()
        self.census = None if of_own_size else Census()

    def run(self, images: Any) -> Any:
        """What the network returns for a batch."""
        output, decisions = self.network.decide(images)
        cost = self.network.cost(decisions)
        self.macs.append(cost.macs.cpu())
        self.by_layer.update({name: int(spent.sum()) for name, spent in cost.by_layer.items()})
        if self.census is not None:
            self.census.add(decisions)
            return output
        self.dense.append(torch.full_like(self.macs[-1], cost.dense))
        if not isinstance(self.network, FixedNetwork):
            for layer in self.network.ledger_for(decisions).layers:
                self.dense_by_layer[layer.name] += layer.macs * len(cost.macs)
        return output

    def spending(self) -> Spending:
        """Over all batches."""
        macs = torch.cat(self.macs)
        by_layer, dense_by_layer = (
            {name: spent / len(macs) for name, spent in total.items()} for total in (self.by_layer, self.dense_by_layer)
        )
        if self.census is not None:
            return Spending(macs, self.network.ledger.dense, by_layer, self.census.gates())
        dense = torch.cat(self.dense).double()
        return Spending(macs, round(float(dense.mean())), by_layer, {}, macs.double() / dense, dense_by_layer or None)
