"""Which share of the MACs takes how long: what to train to where milliseconds are asked for."""

import torch

from convgate.calibration.price import Macs, Milliseconds
from convgate.gated import GatedModel, GatedNetwork
from convgate.gating import Decision, Decisions
from convgate.latency import LatencyModel

__all__ = ["share_of_time"]

_SAMPLES = 32


def share_of_time(network: GatedNetwork | GatedModel, model: LatencyModel, milliseconds: float) -> float:
    """The share of the dense MACs that takes about so long, gates included, in (0, 1].

    That of masks which open all gates' units with one probability: what a network will learn to close is not known
    before it is trained, and `calibrate(milliseconds=..)` sees to the rest afterwards.

    Raises `BudgetError` for a time that no gates can come to.
    """
    price, ledger = Milliseconds(network, model), Macs(network)
    price.check(milliseconds / price.most)
    generator = torch.Generator().manual_seed(0)
    # One number for each unit: as the probability grows, units open and none closes.
    drawn = [torch.rand((_SAMPLES, *spec.shape), generator=generator) for spec in network.plan.gates]
    example = network.plan.example

    def decided(probability: float) -> Decisions:
        kinds = {spec.name: spec.kind for spec in network.plan.gates}
        masks = ((number < probability).float() for number in drawn)
        return Decisions(
            {name: Decision(kind, mask) for (name, kind), mask in zip(kinds.items(), masks, strict=True)},
            (example[2], example[3]),
        )

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        takes = price.total(decided(middle)) / _SAMPLES * price.most
        low, high = (middle, high) if takes < milliseconds else (low, middle)
    return min(ledger.total(decided(high)) / _SAMPLES, 1.0)
