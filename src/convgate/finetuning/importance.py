"""Which units a network misses least, before any of them was closed: the order in which gates begin to close.

Gates that start whole all have the same logit, and where nothing is closed no loss tells one unit from another: its
gradient is zero at the dense network, whose answers are the target. The second derivative is not. With answers y drawn
from the network's own, the Fisher information of a unit's mask m at 1 is

    F = E_x E_y [ (d log p(y | x) / d m)^2 ],

and F / 2 is how far the answers move (KL, to second order) when the unit is closed. Units are ordered by F for each MAC
that they cost, which one pass forward and back over some images gives for all of them.

Source: Theis, Korshunova, Tejani, Huszar: Faster gaze prediction with dense networks and Fisher pruning, 2018, sections
2.1 and 2.2 (there for feature maps; here for every kind of gate, and as a start that training changes).
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from convgate.gated import GatedNetwork
from convgate.gating import Decision, Decisions
from convgate.reading.modes import evaluating

__all__ = ["importance", "information", "order_gates"]


def importance(network: GatedNetwork, batches: Iterable[Tensor], images: int = 128) -> dict[str, Tensor]:
    """Fisher information for each MAC of each gate's units, shaped as the gate's offset; its network learns nothing.

    Args:
        network: a gated network whose output is logits, [N, classes] or, with an answer for each position,
            [N, classes, H, W].
        batches: images [N, C, H, W]; as many of the first are used as hold `images`.
        images: how many to use.

    """
    fisher, macs = information(network, batches, network.open_decisions, images=images)
    return {name: fisher[name] / macs[name].clamp_min(1.0) for name in fisher}


def information(
    network: GatedNetwork,
    batches: Iterable[Tensor],
    decided: Callable[[int, tuple[int, int]], Decisions],
    *,
    images: int = 128,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(Fisher information, MACs) of each gate's units, for an image, shaped as the gate's offset.

    Args:
        network: a gated network whose output is logits, [N, classes] or, with an answer for each position,
            [N, classes, H, W].
        batches: images [N, C, H, W]; as many of the first are used as hold `images`.
        decided: what is open, for so many images of a size.
        images: how many to use.

    """
    gates = dict(network.gate_modules())
    fisher = {name: torch.zeros_like(gate.offset) for name, gate in gates.items()}
    macs = {name: torch.zeros_like(gate.offset) for name, gate in gates.items()}
    used = 0
    with evaluating(network), torch.enable_grad():
        for batch in batches:
            opened = decided(len(batch), (batch.shape[2], batch.shape[3]))
            masks = {name: decision.mask.requires_grad_(True) for name, decision in opened.items()}
            given = Decisions({name: Decision(opened[name].kind, mask) for name, mask in masks.items()}, opened.size)
            logits = network(batch, given=given).float()
            chances = logits.detach().softmax(1).movedim(1, -1)
            drawn = torch.multinomial(chances.flatten(0, -2), 1).view(chances.shape[:-1])
            answers = torch.autograd.grad(F.cross_entropy(logits, drawn, reduction="sum"), list(masks.values()))
            spent = torch.autograd.grad(network.cost(given).macs.sum(), list(masks.values()), allow_unused=True)
            for (name, mask), by_answers, by_macs in zip(masks.items(), answers, spent, strict=True):
                # A unit of one image is all its positions: their gradients add up before they are squared.
                fisher[name] += _units(by_answers, fisher[name]).square().sum(0)
                macs[name] += _units(torch.zeros_like(mask) if by_macs is None else by_macs, fisher[name]).sum(0)
            used += len(batch)
            if used >= images:
                break
    return {name: x / used for name, x in fisher.items()}, {name: x / used for name, x in macs.items()}


@torch.no_grad()
def order_gates(network: GatedNetwork, batches: Iterable[Tensor], *, images: int = 128, spread: float = 1.5) -> None:
    """Shift the logits of a network that starts whole, so that units which are missed least are the first to close.

    A unit's logit moves by `spread` times the standard score of its log importance, by at most twice that: no unit is
    closed yet.
    """
    found = importance(network, batches, images)
    scores = torch.cat([values.flatten() for values in found.values()]).clamp_min(1e-30).log()
    mean, deviation = scores.mean(), scores.std().clamp_min(1e-6)
    for name, gate in network.gate_modules():
        score = (found[name].clamp_min(1e-30).log() - mean) / deviation
        gate.offset += spread * score.clamp(-2, 2).to(gate.offset)


def _units(gradient: Tensor, offset: Tensor) -> Tensor:
    """A mask's gradient [N, ...], summed over what shares an offset: [N, *the offset's shape]."""
    extra = gradient.dim() - 1 - offset.dim()
    shape = (1,) * max(extra, 0) + tuple(offset.shape)
    shape = shape[len(shape) - (gradient.dim() - 1) :]
    summed = [axis + 1 for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis + 1] != 1]
    reduced = gradient.sum(summed, keepdim=True) if summed else gradient
    return reduced.reshape(len(gradient), *offset.shape)
