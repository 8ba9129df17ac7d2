"""In which order a gate's units close: each time the one whose place the others can take best.

A unit's share of the answers is known from its Fisher information (`convgate.finetuning.importance`). But what closing
it costs is less, since the layer that reads it learns to do without: of a channel that the others foretell nothing is
lost. With H = E[x x'] of what the layer reads and W its weights, closing unit u and solving least squares for the rest
leaves an error of

    tr(W_u [(H^-1)_uu]^-1 W_u'),    against    tr(W_u H_uu W_u')    without,

and moves the others' weights by -W_u [(H^-1)_uu]^-1 (H^-1)_u. The unit's information is scaled by the ratio of the two.

Source: Hassibi, Stork: Second order derivatives for network pruning: Optimal Brain Surgeon, 1992, for a layer's squared
error and whole blocks of weights. A convolution's taps are taken to read the same moments.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convgate.finetuning.closing.readers import Closable

__all__ = ["RIDGES", "Sequence", "best_ridge", "closing_sequence", "fewest", "made_up_weights", "regularised"]

RIDGES = (1e-2, 1e-1, 1.0)
# Shares of each channel's own power, of which the one is taken that does best on other images. Late layers have few
# positions, so that what a few hundred images show of them is mostly chance: see docs/design/finetuning.md.
_KEPT = 16
# One in so many units of a gate always stays open.


@dataclass(frozen=True)
class Sequence:
    """`units` in the order in which they close, and the `costs` (nats, about) of closing each after those before."""

    units: tuple[int, ...]
    costs: tuple[float, ...]


def closing_sequence(
    gate: Closable,
    information: Tensor,
    is_open: Tensor,
    moments: Tensor,
    weights: Tensor,
    ridge: float = RIDGES[0],
) -> Sequence:
    """The order in which a gate's open units close.

    Args:
        gate: with its number of units, and of channels in each.
        information: Fisher information of each unit [units].
        is_open: bool [units].
        moments: of what the first reader reads [C + 1, C + 1], see `convgate.finetuning.closing.moments`.
        weights: the first reader's [O, C, k, k].
        ridge: see `best_ridge`.

    """
    alive = is_open.clone()
    closing = int(alive.sum()) - fewest(gate.units)
    half = information.double() / 2
    group, channels = gate.group, gate.channels
    here = torch.cat([gate.spread(alive), torch.tensor([gate.readers[0].takes_constants])])
    inverse = torch.zeros_like(moments)
    index = here.nonzero()[:, 0]
    inverse[index[:, None], index] = torch.linalg.inv(regularised(moments, ridge)[index[:, None], index])
    matrix = weights.detach().cpu().double().permute(0, 2, 3, 1).reshape(-1, channels)
    matrix = torch.cat([matrix, matrix.new_zeros(len(matrix), 1)], 1)
    whole = _errors(matrix, _blocks(moments, gate)).clamp_min(1e-30)
    found: list[int] = []
    costs: list[float] = []
    eye = torch.eye(group, dtype=torch.double)
    for _ in range(closing):
        blocks = _blocks(inverse, gate)
        blocks[~alive] = eye
        inverted = torch.linalg.inv(blocks)
        cost = half * (_errors(matrix, inverted) / whole).clamp_max(1.0)
        unit = int(torch.where(alive, cost, torch.inf).argmin())
        found.append(unit)
        costs.append(float(cost[unit]))
        alive[unit] = False
        own = slice(unit * group, min((unit + 1) * group, channels))
        columns = inverse[:, own].clone()
        moved = inverted[unit, : columns.shape[1], : columns.shape[1]] @ columns.T
        matrix -= matrix[:, own] @ moved
        matrix[:, own] = 0
        inverse -= columns @ moved
        inverse[own], inverse[:, own] = 0, 0
    return Sequence(tuple(found), tuple(costs))


def fewest(units: int) -> int:
    """How many units of a gate always stay open."""
    return max(units // _KEPT, 1)


def best_ridge(weights: Tensor, fitted: Tensor, checked: Tensor, is_open: Tensor, constants: bool = True) -> float:
    """The ridge with which every second open channel, closed, is made up for best on images that were not fitted to.

    Args:
        weights: of a layer that reads the channels [O, C, k, k].
        fitted: moments [C + 1, C + 1] of the images that are fitted to.
        checked: of the others.
        is_open: bool [C].
        constants: whether a constant can be added to the layer's output.

    """
    index = is_open.nonzero()[:, 0]
    stays = torch.zeros_like(is_open)
    stays[index[::2]] = True
    closed = is_open & ~stays

    def error(ridge: float) -> float:
        made_up, constant = made_up_weights(weights, fitted, closed, stays, ridge, constants)
        missing = (weights - made_up).cpu().double().permute(0, 2, 3, 1)
        shift = missing.new_zeros(*missing.shape[:3], 1)
        shift[:, 0, 0, 0] = -constant.cpu().double()
        rows = torch.cat([missing, shift], 3).reshape(-1, len(checked))
        return float(((rows @ checked) * rows).sum())

    return min(RIDGES, key=error)


def made_up_weights(
    weights: Tensor, moments: Tensor, closed: Tensor, is_open: Tensor, ridge: float, constants: bool = True
) -> tuple[Tensor, Tensor]:
    """(weights [O, C, k, k] that do without the closed channels, what to add to the output [O]), by the moments alone.

    Args:
        weights: of a layer that reads the channels.
        moments: [C + 1, C + 1].
        closed: bool [C], the channels that are closing.
        is_open: bool [C], those that stay.
        ridge: see `best_ridge`.
        constants: whether a constant can be added to the output; else that is zero.

    """
    gone, stay = closed.nonzero()[:, 0], is_open.nonzero()[:, 0]
    channels = len(stay)
    if constants:
        stay = torch.cat([stay, torch.tensor([len(moments) - 1])])
    all_ = regularised(moments, ridge)
    by_others = torch.linalg.solve(all_[stay[:, None], stay], moments[stay[:, None], gone]).to(weights)
    added = torch.einsum("ocij,sc->osij", weights[:, gone], by_others)
    weights = weights.clone()
    weights[:, stay[:channels]] += added[:, :channels]
    weights[:, gone] = 0
    return weights, added[:, channels:].sum((1, 2, 3))


def regularised(moments: Tensor, ridge: float, *, constant: bool = True) -> Tensor:
    """Moments with a share of each channel's own power added; that of the constant, the last, stays."""
    power = moments.diagonal().clone()
    channels = len(power) - constant
    power = ridge * power.clamp_min(1e-6 * float(power[:channels].mean()) + 1e-30)
    power[channels:] = 0
    return moments + torch.diag(power)


def _blocks(matrix: Tensor, gate: Closable) -> Tensor:
    """The diagonal blocks of the units: [units, group, group], a copy.

    Channels that a last, smaller unit lacks are filled in as the identity, so that blocks can be inverted.
    """
    inner = torch.eye(gate.units * gate.group, dtype=matrix.dtype)
    inner[: gate.channels, : gate.channels] = matrix[: gate.channels, : gate.channels]
    each = torch.arange(gate.units)
    return inner.reshape(gate.units, gate.group, gate.units, gate.group)[each, :, each]


def _errors(matrix: Tensor, blocks: Tensor) -> Tensor:
    """tr(W_u B_u W_u') of each unit. `matrix` has a column for the constant; channels that it lacks weigh nothing."""
    lacking = blocks.shape[0] * blocks.shape[1] - (matrix.shape[1] - 1)
    by_unit = F.pad(matrix[:, :-1], (0, lacking)).reshape(len(matrix), *blocks.shape[:2])
    return torch.einsum("oug,ugh,ouh->u", by_unit, blocks, by_unit)
