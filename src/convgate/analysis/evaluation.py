"""Run a network over a data set once: predictions, and for a gated network what each image cost.

Nothing that grows with the data is kept but three numbers for each image (the predicted and the true class, the MACs):
decisions are counted batch by batch. Ask the network again for the decisions of the images that you want to see.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convgate.analysis.spending import Account, Spending
from convgate.errors import InputError
from convgate.gated import FixedNetwork, GatedNetwork
from convgate.reading.modes import evaluating

__all__ = ["Evaluation", "evaluate"]


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
    account = Account(network) if isinstance(network, GatedNetwork | FixedNetwork) else None
    with evaluating(network):
        for images, truth in batches:
            x = prepare(images.to(device))
            logits = network(x) if account is None else account.run(x)
            predictions.append(logits.argmax(1).cpu())
            labels.append(truth.cpu())
    if not labels:
        raise InputError("evaluate() was given no batches; give at least one")
    return Evaluation(torch.cat(predictions), torch.cat(labels), None if account is None else account.spending())
