"""What closing a gate's units costs the answers: foretold by order and information, and corrected by measuring.

Fisher information foretells the cost of closing one unit a little. How far that holds when many close differs from
layer to layer, by factors of 0.2 to 50 in MobileNetV2. So each gate's units are closed, by growing shares, in a network
whose other gates are all open; the layer behind makes up for it; and the answers' divergence, on images that its
weights were not fitted to, is compared with what was foretold. That is done once.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from convgate.calibration.measure import computes_in_bfloat16
from convgate.finetuning.closing import order
from convgate.finetuning.closing.layer import Layer, keeping
from convgate.finetuning.closing.reconstruct import first, masks_of
from convgate.gated import GatedNetwork
from convgate.reading.modes import evaluating

__all__ = ["Costs", "fast"]

_SHARES = (1 / 16, 1 / 4, 1 / 2)
# Of a gate's units, closed one share after the other. Units beyond the last are taken to cost as those before it.
_MACS = 1e13
# Measuring is to spend no more, which takes a minute or two of two cores ..
_FEWEST, _MOST = 24, 64
# .. but on so many images at least; and on so many at most.
_LEAST_FACTOR, _LARGEST_FACTOR = 0.1, 100.0
# Beyond these it is not the units that were measured but rounding, of units that cost next to nothing.


class Costs:
    """What closing units of gates costs, in nats of the answers' divergence.

    Args:
        network: a gated classifier.
        whole: a copy of it, all of whose gates are open; its answers are what is to be kept.

    """

    def __init__(self, network: GatedNetwork, whole: GatedNetwork) -> None:
        self.network, self.whole = network, whole
        self.factors: dict[str, list[tuple[int, float]]] = {}
        self.seconds = 0.0
        self._answers: list[Tensor] = []

    @torch.no_grad()
    def measure(
        self,
        layers: Sequence[Layer],
        sequences: Mapping[str, order.Sequence],
        is_open: Mapping[str, Tensor],
        batches: Sequence[Tensor],
    ) -> None:
        """Measure each gate's factors, if that was not done before: (up to how many closed units, factor).

        Args:
            layers: of each gate.
            sequences: gate -> the order in which its units are to close, with what is foretold.
            is_open: gate -> bool [units].
            batches: images [N, C, H, W] that no weights were fitted to.

        """
        if self.factors:
            return
        begun = time.monotonic()
        size = (batches[0].shape[2], batches[0].shape[3])
        macs = self.whole.cost(self.whole.open_decisions(1, size)).dense * len(_SHARES) * max(len(layers), 1)
        images = first(batches, min(max(int(_MACS / macs), _FEWEST), _MOST))
        base = self._divergence(is_open, images)
        for layer in layers:
            gate, sequence = layer.gate, sequences[layer.gate.gate]
            factors, before, cost = list[tuple[int, float]](), 0, 0.0
            for share in _SHARES:
                number = min(max(round(share * gate.units), before + 1), len(sequence.units))
                if number > before:
                    left = is_open[gate.gate].clone()
                    left[list(sequence.units[:number])] = False
                    with keeping(self.network, gate.readers):
                        layer.make_up(self.network, is_open[gate.gate] & ~left, left)
                        measured = max(self._divergence({**is_open, gate.gate: left}, images) - base, cost)
                    factor = (measured - cost) / max(sum(sequence.costs[before:number]), 1e-12)
                    factors.append((number, min(max(factor, _LEAST_FACTOR), _LARGEST_FACTOR)))
                    before, cost = number, measured
            self.factors[gate.gate] = factors
        self.seconds = time.monotonic() - begun

    def corrected(self, gate: str, sequence: order.Sequence, is_open: Tensor) -> order.Sequence:
        """The sequence with costs as measured, never falling: a cheap unit behind a dear one is as dear.

        Args:
            gate: its name.
            sequence: of the units that are open, with what is foretold.
            is_open: bool [units], of the gate.

        """
        factors = self.factors[gate] or [(0, 1.0)]
        closed, costs, largest = len(is_open) - int(is_open.sum()), list[float](), 0.0
        for number, cost in enumerate(sequence.costs):
            largest = max(largest, cost * next((f for upto, f in factors if closed + number < upto), factors[-1][1]))
            costs.append(largest)
        return dataclasses.replace(sequence, costs=tuple(costs))

    def _divergence(self, is_open: Mapping[str, Tensor], images: Sequence[Tensor]) -> float:
        """KL of the answers with these units open from those of the whole network, the mean over the images."""
        total = 0.0
        with fast(images[0]):
            if not self._answers:
                with evaluating(self.whole):
                    for x in images:
                        opened = self.whole.open_decisions(len(x), (x.shape[2], x.shape[3]))
                        self._answers.append(self.whole(x, given=opened).float().log_softmax(1))
            with evaluating(self.network):
                for x, theirs in zip(images, self._answers, strict=True):
                    given = masks_of(self.network, is_open, len(x), (x.shape[2], x.shape[3]))
                    ours = self.network(x, given=given).float().log_softmax(1)
                    total += float(F.kl_div(ours, theirs, reduction="sum", log_target=True))
        return total / sum(map(len, images))


def fast(images: Tensor) -> torch.autocast:
    """Within it networks compute in bfloat16, where the images' device does."""
    return torch.autocast(images.device.type, torch.bfloat16, enabled=computes_in_bfloat16(images.device))
