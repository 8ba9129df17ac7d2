"""A gated network that does the same for every image: masks given once take the place of its gates' decisions."""

import bisect
from typing import Any

import torch
from torch import Tensor, nn

from convgate.cost import Cost, Ledger
from convgate.errors import BudgetError, InputError
from convgate.gated.network import GatedNetwork
from convgate.gated.plan import Plan
from convgate.gating import Decision, Decisions

__all__ = ["FixedNetwork", "random_masks"]

_CLOSE = 0.002


class FixedNetwork(nn.Module):
    """A network with fixed masks: what a gated network is compared with, to see what deciding for each image is worth.

    Its gates decide nothing, and cost nothing. It takes images of the masks' size alone.

    Args:
        network: whose layers are used; as it is, not a copy.
        masks: the decisions for one image, e.g. of `random_masks` or `convgate.analysis.Census.majority`.

    Raises:
        InputError: the masks are of more than one image, or of another network.

    >>> import torch, convgate
    >>> from convgate.models import create
    >>> net = convgate.gate(create("cifar_resnet8", width=4), convgate.DualGating(), torch.zeros(2, 3, 16, 16))
    >>> fixed = FixedNetwork(net, random_masks(net, 0.5, seed=0)).eval()
    >>> y, decisions = fixed.decide(torch.randn(4, 3, 16, 16))
    >>> [round(share, 2) for share in fixed.cost(decisions).ratio.tolist()]
    [0.5, 0.5, 0.5, 0.5]

    """

    def __init__(self, network: GatedNetwork, masks: Decisions) -> None:
        super().__init__()
        if masks.batch_size != 1:
            raise InputError(f"FixedNetwork() was given masks of {masks.batch_size} images; give those of one")
        network.cost(masks)  # refuses those of another network
        self.network = network
        self.kinds = {name: decision.kind for name, decision in masks.items()}
        self.size = masks.size
        self.masks = nn.Module()
        for number, decision in enumerate(masks.values()):  # names of gates have dots
            self.masks.register_buffer(str(number), decision.mask.detach().clone())

    @property
    def plan(self) -> Plan:
        """What is masked."""
        return self.network.plan

    @property
    def ledger(self) -> Ledger:
        """The MACs of every layer."""
        return self.network.ledger

    def forward(self, images: Tensor) -> Any:
        """What the network returns for `images` (float [N, C, H, W]) with these masks."""
        return self.network(images, given=self.decisions(len(images)))

    def decide(self, images: Tensor) -> tuple[Any, Decisions]:
        """(what the network returns, the masks as decisions for each of the images)."""
        return self(images), self.decisions(len(images))

    def decisions(self, n: int) -> Decisions:
        """The masks for each of `n` images."""
        masks = self.masks.buffers()
        given = {
            name: Decision(kind, mask.expand(n, *mask.shape[1:]))
            for (name, kind), mask in zip(self.kinds.items(), masks, strict=True)
        }
        return Decisions(given, self.size)

    def cost(self, decisions: Decisions, *, whole: bool = False) -> Cost:
        """The MACs that these decisions cost: per sample, per layer. No gate is computed, so none is counted."""
        cost = self.network.cost(decisions, whole=whole)
        gates = {f"gates.{name}" for name in self.ledger.gates}
        layers = {name: macs for name, macs in cost.by_layer.items() if name not in gates}
        return Cost(cost.macs - self.ledger.gate_macs, cost.dense, layers)


def random_masks(network: GatedNetwork, budget: float, seed: int) -> Decisions:
    """Masks for one image that spend a share of the dense MACs: units of all gates are opened in an order that is drawn
    by `seed`, each unless it would exceed the budget, until that is reached to 0.2 % or no unit is left.

    Raises `BudgetError` for less than is spent with all of them closed.

    """
    closed = network.closed_decisions(1)
    shapes = {name: decision.mask.shape for name, decision in closed.items()}
    sizes = [shape.numel() for shape in shapes.values()]
    device = next(iter(closed.values())).mask.device
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed))

    def opened(units: Tensor) -> Decisions:
        flat = torch.zeros(sum(sizes))
        flat[units] = 1
        parts = zip(shapes.items(), flat.split(sizes), strict=True)
        masks = {name: Decision(closed[name].kind, part.view(shape)) for (name, shape), part in parts}
        return Decisions(masks, closed.size).to(device)

    def share(units: Tensor) -> float:
        cost = network.cost(opened(units))
        return (int(cost.macs) - network.ledger.gate_macs) / cost.dense

    if share(order[:0]) > budget:
        raise BudgetError(f"budget {budget} cannot be reached: with every unit closed {share(order[:0]):.4f} is spent")
    fitting = bisect.bisect_right(range(1, len(order) + 1), budget, key=lambda count: share(order[:count]))
    chosen = order[:fitting]
    for unit in order[fitting:]:
        if share(chosen) >= (1 - _CLOSE) * budget:
            break
        more = torch.cat([chosen, unit[None]])
        chosen = more if share(more) <= budget else chosen
    return opened(chosen)
