"""Closing units for good, a few at a time: which are missed least, and how the others take their place.

A round ends at a share of the MACs. (1) Fisher information says how much of the answers hangs on each unit, moments of
what layers read how much of that the others can take over (`order`). (2) That is measured once for each gate, since
layers differ in how far it holds (`costs`). (3) The units that cost least for each MAC close. (4) The layers that read
them are given new weights (`reconstruct`). Then the weights learn until the next round.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from convgate.errors import BudgetError, InputError
from convgate.finetuning.closing import order
from convgate.finetuning.closing.costs import Costs, fast
from convgate.finetuning.closing.layer import Layer
from convgate.finetuning.closing.moments import moments
from convgate.finetuning.closing.readers import Closable, closable
from convgate.finetuning.closing.reconstruct import is_checked_on, masks_of, reconstruct, two_at_least
from convgate.finetuning.importance import information
from convgate.gated import GatedNetwork
from convgate.gating import Decisions
from convgate.reading.modes import evaluating

__all__ = ["Closing"]

_BATCH = 32
# Images are fitted to and checked on in batches of so many.
_STEP = 0.004
# Of the dense MACs: so many are saved before the units' MACs are counted again.
_LANES = 16
# Channels that a vector instruction computes at once.
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
        self.gates = [gate for gate in closable(network) if gate.readers and _can_make_up(network, gate)]
        self.is_open = {gate.gate: torch.ones(gate.units, dtype=torch.bool) for gate in self.gates}
        self._closed: list[tuple[str, int]] = []
        self._by_name = {gate.gate: gate for gate in self.gates}
        self.costs = Costs(network, whole)

    @property
    def units(self) -> int:
        """How many there are."""
        return sum(gate.units for gate in self.gates)

    def least(self) -> float:
        """The share of the dense MACs that is left when all that may close has closed."""
        kept = {gate.gate: torch.arange(gate.units) < order.fewest(gate.units) for gate in self.gates}
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
        batches = two_at_least([part for batch in batches for part in batch.split(_BATCH)])
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

    def _sequences(self, batches: Sequence[Tensor]) -> tuple[list[Layer], dict[str, order.Sequence]]:
        """What is known of each gate, and in which order its units close."""
        other = [x for n, x in enumerate(batches) if is_checked_on(n)] or list(batches)
        with fast(batches[0]):
            fitted = moments(self.network, self.gates, [x for n, x in enumerate(batches) if not is_checked_on(n)])
            checked = moments(self.network, self.gates, other)
            fisher, _ = information(self.network, batches, self._decisions)
        layers = [Layer.of(self.network, gate, self.is_open[gate.gate], fitted, checked) for gate in self.gates]
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
        self.costs.measure(layers, sequences, self.is_open, other)
        corrected = {name: self.costs.corrected(name, s, self.is_open[name]) for name, s in sequences.items()}
        return layers, corrected

    def _choose(self, sequences: Mapping[str, order.Sequence], share: float) -> None:
        """Close the units that cost least for each MAC, a block of them at a time."""
        place = dict.fromkeys(sequences, 0)
        reached = self.share()
        while reached > share:
            saved = self._saved()
            goal = min(reached - share, _STEP)
            freed = 0.0
            while freed < goal:
                blocks = {
                    name: self._block(name, len(sequence.units) - place[name])
                    for name, sequence in sequences.items()
                    if place[name] < len(sequence.units)
                }
                if not blocks:
                    raise BudgetError(
                        f"closing all units that may close leaves {self.share():.1%} of the dense MACs, and the budget "
                        f"is {share:.1%}; gate more of the network (where='everywhere'), or ask for a larger budget"
                    )
                name = min(
                    blocks,
                    key=lambda name: (
                        fmean(sequences[name].costs[place[name] : place[name] + blocks[name]]) / saved[name]
                    ),
                )
                # The last block is cut, so that the budget is met to the unit.
                needed = math.ceil((reached - share - freed) / saved[name])
                units = min(blocks[name], max(needed, 1))
                for unit in sequences[name].units[place[name] : place[name] + units]:
                    self.is_open[name][unit] = False
                    self._closed.append((name, unit))
                freed += units * saved[name]
                place[name] += units
            reached = self.share()

    def _block(self, name: str, left: int) -> int:
        """How many units of a gate close together, so that what stays is a multiple of what processors compute at once.

        At most an eighth of the gate's. The last block of a round is cut, and the gate's next one makes up for it.
        """
        gate = self._by_name[name]
        block = _LANES // math.gcd(_LANES, gate.group)
        while block > max(gate.units // 8, 1):
            block //= 2
        return min(int(self.is_open[name].sum()) % block or block, left)

    def _saved(self) -> dict[str, float]:
        """The share of the dense MACs that one more closed unit of each gate saves; above 0, so that it divides."""
        given = self._decisions(1, self.size)
        masks = {name: decision.mask.requires_grad_(True) for name, decision in given.items()}
        ratio = self.network.cost(given).ratio.double().sum()
        slopes = torch.autograd.grad(ratio, list(masks.values()), allow_unused=True)
        by_gate = dict(zip(masks, slopes, strict=True))
        found = {name: 0.0 if by_gate[name] is None else float(by_gate[name].flatten().max()) for name in self.is_open}
        return {name: max(share, 1e-12) for name, share in found.items()}

    def _decide(self, sequences: Mapping[str, order.Sequence], images: Tensor) -> None:
        """Set the gates' offsets: logits below 0 where closed, the last to close nearest; else above, the next nearest.

        So a calibration that shifts all logits a little goes on in the order in which units close.
        """
        logits = {gate.gate: torch.full((gate.units,), _FURTHEST) for gate in self.gates}
        for number, (name, unit) in enumerate(reversed(self._closed)):
            logits[name][unit] = -0.5 - (_FURTHEST - 0.5) * number / len(self._closed)
        saved = self._saved()
        following = sorted(
            (cost / saved[name], name, place, unit)
            for name, sequence in sequences.items()
            for place, (unit, cost) in enumerate(zip(sequence.units, sequence.costs, strict=True))
            if self.is_open[name][unit]
        )
        for number, (_, name, _, unit) in enumerate(following):
            logits[name][unit] = 0.5 + (_FURTHEST - 0.5) * number / len(following)
        with evaluating(self.network), torch.no_grad():
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
        return {"closed": list(self._closed), "factors": dict(self.costs.factors)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises `InputError` for what is of other gates."""
        closed = [(name, int(unit)) for name, unit in state["closed"]]
        factors = dict(state["factors"])
        if factors and factors.keys() != self.is_open.keys():
            raise InputError("what was measured is of other gates than the network's; give it the state of one like it")
        for name, unit in closed:
            self.is_open[name][unit] = False
        self._closed, self.costs.factors = closed, factors


def _can_make_up(network: GatedNetwork, gate: Closable) -> bool:
    """Whether the layers that read a gate's channels may be given other weights: whoever froze them keeps them."""
    names = [name for reader in gate.readers for name in (reader.layer, reader.norm) if name]
    return all(p.requires_grad for name in names for p in network.get_submodule(name).parameters())
