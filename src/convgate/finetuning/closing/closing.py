"""Closing units for good, a few at a time: which are missed least, and how the others take their place.

A round ends at a share of the MACs. (1) Fisher information says how much of the answers hangs on each unit, moments of
what layers read how much of that the others can take over (`order`). (2) That is measured once for each gate, since
layers differ in how far it holds: a third of the gate's units are closed and made up for, and the answers' divergence
is compared with what was foretold. (3) The units that cost least for each MAC close. (4) The layers that read them are
given new weights (`reconstruct`). Then the weights learn until the next round.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.calibration.measure import computes_in_bfloat16
from convgate.errors import BudgetError
from convgate.finetuning.closing import order
from convgate.finetuning.closing.moments import moments
from convgate.finetuning.closing.readers import Closable, Reader, closable
from convgate.finetuning.closing.reconstruct import first, masks_of, reconstruct, shift_output
from convgate.finetuning.importance import information
from convgate.gated import GatedNetwork
from convgate.gating import Decisions
from convgate.reading.modes import evaluating

__all__ = ["Closing"]

_TRIED = 0.3
# Of a gate's units, to measure what closing them costs.
_BATCH, _CHECKED = 32, 4
# One in so many batches is checked on: what was learned from the others is tried there.
_MEASURED = 24
# Images that this is measured on.
_STEP = 0.004
# Of the dense MACs: so many are saved before the units' MACs are counted again.
_FURTHEST = 5.0
# Logits of gates' units: the last to close, and the first that closed, are so far from the threshold.


class Closing:
    """Which units of a network that starts whole are closed for good. Gates decide by it, whatever the image.

    Args:
        network: a gated classifier.
        whole: a copy of it from before any training; its weights are what layers are fitted to.
        size: (height, width) of the images, for which MACs are counted; by default the example's.

    """

    def __init__(self, network: GatedNetwork, whole: GatedNetwork, size: tuple[int, int] | None = None) -> None:
        self.network, self.whole = network, whole
        self.size = size or (network.plan.example[2], network.plan.example[3])
        self.gates = [gate for gate in closable(network) if gate.readers]
        self.is_open = {gate.gate: torch.ones(gate.units, dtype=torch.bool) for gate in self.gates}
        self._closed: list[tuple[str, int]] = []
        self._factors: dict[str, float] = {}
        self._answers: list[Tensor] | None = None

    @property
    def units(self) -> int:
        """How many there are."""
        return sum(gate.units for gate in self.gates)

    def least(self) -> float:
        """The share of the dense MACs that is left when all that may close has closed."""
        kept = {gate.gate: torch.arange(gate.units) < max(gate.units // order.KEPT, 1) for gate in self.gates}
        return self._share(kept)

    def share(self) -> float:
        """The share of the dense MACs that is left now."""
        return self._share(self.is_open)

    def close_to(self, share: float, batches: Sequence[Tensor]) -> None:
        """A round: close what is missed least until at most `share` of the dense MACs is left.

        Args:
            share: of the dense MACs, gates included.
            batches: images [N, C, H, W] of one size.

        Raises:
            BudgetError: all that may close is closed before.

        """
        # Small batches, so that some can be left out of what is fitted.
        batches = [part for batch in batches for part in batch.split(_BATCH)]
        if len(batches) == 1:
            batches = list(batches[0].chunk(2))
        layers, sequences = self._sequences(batches)
        before = {name: units.clone() for name, units in self.is_open.items()}
        self._choose(sequences, share)
        with torch.no_grad():
            for layer in layers:
                name = layer.gate.gate
                layer.make_up(self.network, before[name] & ~self.is_open[name], self.is_open[name])
        reconstruct(self.network, self.whole, self.gates, self.is_open, batches)
        self._decide(sequences, batches[0])

    # -- a round ---------------------------------------------------------------------------------------------------

    def _sequences(self, batches: Sequence[Tensor]) -> tuple[list["_Layer"], dict[str, order.Sequence]]:
        """What is known of each gate, and in which order its units close."""
        other = [x for n, x in enumerate(batches) if n % _CHECKED == 1] or list(batches)
        with _fast(batches[0]):
            fitted = moments(self.network, self.gates, [x for n, x in enumerate(batches) if n % _CHECKED != 1])
            checked = moments(self.network, self.gates, other)
            fisher, _ = information(self.network, batches, self._decisions)
        layers = [_Layer.of(self.network, gate, self.is_open[gate.gate], fitted, checked) for gate in self.gates]
        sequences = {
            layer.gate.gate: order.closing_sequence(
                layer.gate,
                fisher[layer.gate.gate].flatten().cpu(),
                self.is_open[layer.gate.gate],
                layer.moments,
                layer.weights,
                layer.ridge,
            )
            for layer in layers
        }
        if not self._factors:
            self._factors = {
                layer.gate.gate: self._factor(layer, sequences[layer.gate.gate], other) for layer in layers
            }
        return layers, sequences

    @torch.no_grad()
    def _factor(self, layer: "_Layer", sequence: order.Sequence, batches: Sequence[Tensor]) -> float:
        """How much more closing units of a gate costs than was foretold, on images that were not fitted to."""
        closing = sequence.units[: max(int(_TRIED * layer.gate.units), 1)]
        foretold = sum(sequence.costs[: len(closing)])
        if not closing:
            return 1.0
        is_open = self.is_open[layer.gate.gate].clone()
        is_open[list(closing)] = False
        with _keeping(self.network, layer.gate.readers):
            layer.make_up(self.network, self.is_open[layer.gate.gate] & ~is_open, is_open)
            measured = self._divergence({**self.is_open, layer.gate.gate: is_open}, batches)
        return measured / max(foretold, 1e-12)

    def _divergence(self, is_open: Mapping[str, Tensor], batches: Sequence[Tensor]) -> float:
        """KL of the answers with these units open from those of the whole network, the mean."""
        if self._answers is None:
            self._answers = []
            with evaluating(self.whole), _fast(batches[0]):
                for x in first(batches, _MEASURED):
                    opened = self.whole.open_decisions(len(x), (x.shape[2], x.shape[3]))
                    self._answers.append(self.whole(x, given=opened).float().log_softmax(1))
        total = 0.0
        images = first(batches, _MEASURED)
        with evaluating(self.network), _fast(batches[0]):
            for x, theirs in zip(images, self._answers, strict=True):
                given = masks_of(self.network, is_open, len(x), (x.shape[2], x.shape[3]))
                ours = self.network(x, given=given).float().log_softmax(1)
                total += float(F.kl_div(ours, theirs, reduction="sum", log_target=True))
        return total / sum(map(len, images))

    def _choose(self, sequences: Mapping[str, order.Sequence], share: float) -> None:
        """Close the units that cost least for each MAC."""
        place = dict.fromkeys(sequences, 0)
        costs = {name: _rising(s.costs, self._factors.get(name, 1.0)) for name, s in sequences.items()}
        reached = self.share()
        while reached > share:
            saved = self._saved()
            goal = max(reached - share, 0.0) if reached - share < _STEP else _STEP
            freed = 0.0
            while freed < goal:
                left = [name for name in sequences if place[name] < len(costs[name])]
                if not left:
                    raise BudgetError(
                        f"closing all units that may close leaves {self.share():.1%} of the dense MACs, and the budget "
                        f"is {share:.1%}; gate more of the network (where='everywhere'), or ask for a larger budget"
                    )
                name = min(left, key=lambda name: costs[name][place[name]] / max(saved[name], 1e-12))
                unit = sequences[name].units[place[name]]
                self.is_open[name][unit] = False
                self._closed.append((name, unit))
                freed += saved[name]
                place[name] += 1
            reached = self.share()

    def _saved(self) -> dict[str, float]:
        """The share of the dense MACs that one more closed unit of each gate saves."""
        given = self._decisions(1, self.size)
        masks = {name: decision.mask.requires_grad_(True) for name, decision in given.items()}
        ratio = self.network.cost(given).ratio.double().sum()
        slopes = torch.autograd.grad(ratio, list(masks.values()), allow_unused=True)
        by_gate = dict(zip(masks, slopes, strict=True))
        return {name: 0.0 if by_gate[name] is None else float(by_gate[name].flatten().max()) for name in self.is_open}

    @torch.no_grad()
    def _decide(self, sequences: Mapping[str, order.Sequence], images: Tensor) -> None:
        """Set the gates' offsets: logits below 0 where closed, the last to close nearest; else above, the next nearest.

        So a calibration that shifts all logits a little goes on in the order in which units close.
        """
        logits = {gate.gate: torch.full((gate.units,), _FURTHEST) for gate in self.gates}
        for number, (name, unit) in enumerate(reversed(self._closed)):
            logits[name][unit] = -0.5 - (_FURTHEST - 0.5) * number / len(self._closed)
        following = sorted(
            (cost, name, unit)
            for name, sequence in sequences.items()
            for unit, cost in zip(sequence.units, _rising(sequence.costs, self._factors.get(name, 1.0)), strict=True)
            if self.is_open[name][unit]
        )
        for number, (_, name, unit) in enumerate(following):
            logits[name][unit] = 0.5 + (_FURTHEST - 0.5) * number / len(following)
        with evaluating(self.network):
            _, decisions = self.network.decide(images)
        # Heads that start whole say the same of every image, but for a thousandth.
        said = {
            name: decisions[name].logits.mean(0).to(gate.offset.device) - gate.offset.view(-1, 1, 1)  # type: ignore[union-attr]
            for name, gate in self.network.gate_modules()
            if name in logits
        }
        for name, gate in self.network.gate_modules():
            if name in logits:
                gate.offset.copy_((logits[name].to(said[name]).view_as(said[name]) - said[name]).view_as(gate.offset))

    # -- what is open ----------------------------------------------------------------------------------------------

    def _decisions(self, n: int, size: tuple[int, int]) -> Decisions:
        return masks_of(self.network, self.is_open, n, size)

    @torch.no_grad()
    def _share(self, is_open: Mapping[str, Tensor]) -> float:
        given = masks_of(self.network, is_open, 1, self.size)
        return float(self.network.cost(given).ratio.double().mean())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the network."""
        return {"closed": list(self._closed), "factors": dict(self._factors)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._closed = [(name, int(unit)) for name, unit in state["closed"]]
        self._factors = dict(state["factors"])
        for name, unit in self._closed:
            self.is_open[name][unit] = False


@dataclass(frozen=True)
class _Layer:
    """What is known of a gate's units from what their first reader reads."""

    gate: Closable
    weights: Tensor
    moments: Tensor
    ridge: float

    @classmethod
    def of(
        cls,
        network: GatedNetwork,
        gate: Closable,
        is_open: Tensor,
        fitted: Mapping[str, Tensor],
        checked: Mapping[str, Tensor],
    ) -> "_Layer":
        layer = network.get_submodule(gate.readers[0].layer)
        assert isinstance(layer, nn.Conv2d)
        weights = layer.weight.detach()
        channels = is_open.repeat_interleave(gate.group)
        ridge = order.best_ridge(weights, fitted[gate.gate], checked[gate.gate], channels)
        return cls(gate, weights, fitted[gate.gate], ridge)

    def make_up(self, network: GatedNetwork, closed: Tensor, is_open: Tensor) -> None:
        """Give the gate's readers weights that do without the closed units, by the moments alone."""
        channels = closed.repeat_interleave(self.gate.group), is_open.repeat_interleave(self.gate.group)
        for reader in self.gate.readers if bool(closed.any()) else ():
            layer = network.get_submodule(reader.layer)
            assert isinstance(layer, nn.Conv2d)
            weights, constant = order.made_up_weights(layer.weight, self.moments, *channels, self.ridge)
            layer.weight.copy_(weights)
            shift_output(network, reader, constant)


@contextmanager
def _keeping(network: GatedNetwork, readers: Iterable[Reader]) -> Iterator[None]:
    """Afterwards the readers, and the norms behind them, are as they were."""
    layers = [network.get_submodule(name) for reader in readers for name in (reader.layer, reader.norm) if name]
    kept = [{key: value.clone() for key, value in layer.state_dict().items()} for layer in layers]
    try:
        yield
    finally:
        for layer, state in zip(layers, kept, strict=True):
            layer.load_state_dict(state)


def _fast(images: Tensor) -> torch.autocast:
    """Within it networks compute in bfloat16, where the images' device does."""
    return torch.autocast(images.device.type, torch.bfloat16, enabled=computes_in_bfloat16(images.device))


def _rising(costs: Iterable[float], factor: float) -> list[float]:
    """Costs that never fall: a cheap unit behind a dear one is as dear."""
    found, largest = [], 0.0
    for cost in costs:
        largest = max(largest, factor * cost)
        found.append(largest)
    return found
