"""Judge a network's answers over a set of images by what its task is about, and note what each image cost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convgate.analysis.evaluation import Spending
from convgate.data.images import AnyImages
from convgate.errors import InputError
from convgate.gated import FixedNetwork, GatedModel, GatedNetwork
from convgate.reading.modes import evaluating
from convgate.tasks.task import Task

__all__ = ["Judged", "judge"]


@dataclass(frozen=True, eq=False)
class Judged:
    """What a judge said of a network's answers.

    Attributes:
        metric: name of the first score, which the task is about.
        scores: name -> value.
        images: how many there were.
        spending: what a gated network spent on each; None for another.

    """

    metric: str
    scores: Mapping[str, float]
    images: int
    spending: Spending | None = None

    @property
    def accuracy(self) -> float:
        """The first score."""
        return self.scores[self.metric]


@torch.no_grad()
def judge(network: nn.Module, batches: Iterable[tuple[Any, Any]], images: AnyImages, task: Task) -> Judged:
    """Run `network` in evaluation mode over `batches` of a set; its mode is restored afterwards.

    Images may be of several sizes: what each spent is its share of what the ungated network spends on that size.

    Raises `InputError` where there are no batches.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    said, count = task.judge(images.classes), 0
    account = _Account(network) if isinstance(network, GatedNetwork | GatedModel | FixedNetwork) else None
    with evaluating(network):
        for batch, targets in batches:
            x = task.prepared(images, batch)
            x = x.to(device) if isinstance(x, Tensor) else [image.to(device) for image in x]
            said.add(network(x) if account is None else account.run(x), targets)
            count += len(targets)
    if not count:
        raise InputError("judge() was given no batches; give at least one")
    return Judged(task.metric, dict(said.scores()), count, None if account is None else account.spending())


class _Account:
    """What a gated network spends on images of any sizes, added up batch by batch."""

    def __init__(self, network: GatedNetwork | GatedModel | FixedNetwork) -> None:
        self.network = network
        self.macs: list[Tensor] = []
        self.dense: list[Tensor] = []
        self.by_layer: dict[str, int] = {}
        self.dense_by_layer: dict[str, int] = {}

    def run(self, x: Any) -> Any:
        output, decisions = self.network.decide(x)
        cost = self.network.cost(decisions)
        self.macs.append(cost.macs.cpu())
        self.dense.append(torch.full_like(self.macs[-1], cost.dense))
        for name, spent in cost.by_layer.items():
            self.by_layer[name] = self.by_layer.get(name, 0) + int(spent.sum())
        if not isinstance(self.network, FixedNetwork):
            for layer in self.network.ledger_for(decisions).layers:
                more = layer.macs * len(cost.macs)
                self.dense_by_layer[layer.name] = self.dense_by_layer.get(layer.name, 0) + more
        return output

    def spending(self) -> Spending:
        macs, dense = torch.cat(self.macs), torch.cat(self.dense)
        means, ungated = (
            {name: spent / len(macs) for name, spent in total.items()} for total in (self.by_layer, self.dense_by_layer)
        )
        shares = macs.double() / dense.double()
        return Spending(macs, round(float(dense.double().mean())), means, {}, shares, ungated or None)
