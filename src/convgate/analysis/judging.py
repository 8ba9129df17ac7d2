"""Judge a network's answers over a set of images by what its task is about, and note what each image cost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convgate.analysis.spending import Account, Spending
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
    account = (
        Account(network, of_own_size=True) if isinstance(network, GatedNetwork | GatedModel | FixedNetwork) else None
    )
    with evaluating(network):
        for batch, targets in batches:
            x = task.prepared(images, batch)
            x = x.to(device) if isinstance(x, Tensor) else [image.to(device) for image in x]
            said.add(network(x) if account is None else account.run(x), targets)
            count += len(targets)
    if not count:
        raise InputError("judge() was given no batches; give at least one")
    return Judged(task.metric, dict(said.scores()), count, None if account is None else account.spending())
