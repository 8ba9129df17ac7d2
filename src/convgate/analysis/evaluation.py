"""Run a network over a data set once: predictions, and for a gated network what each image cost."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.gated import GatedNetwork
from convgate.gating import Activations, Decision, Decisions
from convgate.reading.modes import evaluating

__all__ = ["Evaluation", "Spending", "evaluate"]

PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, eq=False)
class Spending:
    """What a gated network spent on each image of a data set.

    `macs` int64 [N], gates included; `dense` the ungated network's MACs per image; `by_layer` the mean MACs of each
    layer and gate; `decisions` those of all images, on the CPU, without logits. Masks of activation gates, as large as
    the features of all images, are bool.
    """

    macs: Tensor
    dense: int
    by_layer: Mapping[str, float]
    decisions: Decisions

    @property
    def ratio(self) -> float:
        """Mean share of the dense MACs."""
        return float(self.macs.double().mean()) / self.dense

    @property
    def percentiles(self) -> dict[str, float]:
        """Percentiles over images of the share of the dense MACs: {"5": .., "25": .., ..}."""
        shares = self.macs.double() / self.dense
        return {str(p): float(torch.quantile(shares, p / 100)) for p in PERCENTILES}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predicted and true classes, int64 [N] each, and what a gated network spent (None for another)."""

    predictions: Tensor
    labels: Tensor
    spending: Spending | None = None

    @property
    def correct(self) -> Tensor:
        """Which images are classified right, bool [N]."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        """Share of images classified right, in [0, 1]."""
        return float(self.correct.double().mean())


def _kept(decisions: Decisions) -> Decisions:
    masks = {name: d.mask.bool() if isinstance(d.kind, Activations) else d.mask for name, d in decisions.items()}
    return decisions.map(lambda name, d: Decision(d.kind, masks[name].cpu()))


@torch.no_grad()
def evaluate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    prepare: Callable[[Tensor], Tensor] = lambda images: images,
) -> Evaluation:
    """Run `network` in evaluation mode over `batches` of (images, labels); its mode is restored afterwards.

    Args:
        network: images -> logits [N, classes]; a `GatedNetwork` is also accounted for.
        batches: images as `prepare` takes them, labels int64 [N].
        prepare: what turns a batch's images into the network's input, e.g. normalisation.

    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    predictions, labels, macs, decisions = [], [], [], []
    by_layer: dict[str, int] = {}
    with evaluating(network):
        for images, truth in batches:
            x = prepare(images.to(device))
            if isinstance(network, GatedNetwork):
                logits, decided = network.decide(x)
                cost = network.cost(decided)
                macs.append(cost.macs.cpu())
                decisions.append(_kept(decided))
                for name, spent in cost.by_layer.items():
                    by_layer[name] = by_layer.get(name, 0) + int(spent.sum())
            else:
                logits = network(x)
            predictions.append(logits.argmax(1).cpu())
            labels.append(truth.cpu())
    if not labels:
        raise InputError("evaluate() was given no batches; give at least one")
    spending = None
    if isinstance(network, GatedNetwork):
        total = torch.cat(macs)
        means = {name: spent / len(total) for name, spent in by_layer.items()}
        spending = Spending(total, network.ledger.dense, means, Decisions.concatenate(decisions))
    return Evaluation(torch.cat(predictions), torch.cat(labels), spending)
