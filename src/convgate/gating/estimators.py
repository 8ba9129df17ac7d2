"""Straight-through estimators: a hard 0/1 decision forward, a smooth gradient backward.

Each takes logits (float, any shape) and returns a float mask of that shape that is exactly 0 or 1 (Improved SemHash:
for some samples what lies between).
"""

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "above_half",
    "decide",
    "improved_semhash",
    "logistic_straight_through",
    "smooth_step",
    "threshold_straight_through",
]


def decide(logits: Tensor, *, closed_at_zero: bool = False) -> Tensor:
    """The decision in evaluation: 1 where the logit is >= 0, or > 0 if `closed_at_zero`."""
    return ((logits > 0) if closed_at_zero else (logits >= 0)).to(logits.dtype)


def threshold_straight_through(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """The noise-free decision, with the gradient of sigmoid(logits / temperature)."""
    return _straight_through(decide(logits), torch.sigmoid(logits / temperature))


def logistic_straight_through(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """A sampled decision: 1 where logits + g >= 0 with logistic g, so that P(1) = sigmoid(logits).

    g = log(u + 1e-8) - log(1 - u + 1e-8), u uniform in [0, 1); the gradient is that of
    sigmoid((logits + g) / temperature). Source: DGNet's code, `GumbelSoftmax` with eps = temperature.
    """
    u = torch.rand_like(logits)
    noise = torch.log(u + 1e-8) - torch.log(1 - u + 1e-8)
    soft = torch.sigmoid((logits + noise) / temperature)
    return _straight_through((soft >= 0.5).to(soft.dtype), soft)


def improved_semhash(logits: Tensor, binary: Tensor, dropout: Tensor | float = 0.0) -> Tensor:
    """Improved SemHash: with noisy = logits + N(0, 1) noise, 1[noisy > 0] for some samples and a soft mask for others.

    The soft mask is the saturating sigmoid max(0, min(1, 1.2 sigmoid(noisy) - 0.1)), and its gradient is that of both;
    it is zero where |noisy| > ln 11. Source: GaterNet's paper, section 3.2.2.

    Args:
        logits: float [N, ...].
        binary: bool [N], which samples get the binary mask.
        dropout: the share of entries set to 0 on top, without rescaling the others.

    """
    noisy = logits + torch.randn_like(logits)
    soft = (1.2 * torch.sigmoid(noisy) - 0.1).clamp(0, 1)
    hard = (noisy > 0).to(soft.dtype)
    mask = _straight_through(torch.where(binary.view(-1, *[1] * (logits.dim() - 1)), hard, soft), soft)
    return mask * (torch.rand_like(logits) >= dropout)


def above_half(logits: Tensor, slope: float) -> Tensor:
    """1 where sigmoid(slope * logits), as rounded, exceeds 1/2. Source: CGNet's code, `GreaterThan`.

    Unlike `decide` it is closed at 0 and at positive logits so small that the sigmoid rounds to 1/2.
    """
    return _exceeds_half(torch.sigmoid(slope * logits))


def smooth_step(logits: Tensor, slope: float, *, sparse: bool = False) -> Tensor:
    """The decision `above_half`, with the gradient of sigmoid(slope * logits).

    If `sparse`, the gradient is zero where that sigmoid is below 1/2: a closed gate learns from no output. Source:
    CGNet's code, `GreaterThan` and `SparseGreaterThan`.
    """
    return _SmoothStep.apply(logits, slope, sparse)


class _SmoothStep(torch.autograd.Function):
    """`smooth_step` in few passes: where each activation has a gate, logits are as large as the features."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, slope: float, sparse: bool) -> Tensor:
        soft = torch.sigmoid(slope * logits)
        ctx.save_for_backward(soft)
        ctx.slope, ctx.sparse = slope, sparse
        return _exceeds_half(soft)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (soft,) = ctx.saved_tensors
        to_logits = gradient * (1 - soft) * soft * ctx.slope
        return to_logits * (soft >= 0.5) if ctx.sparse else to_logits, None, None


def _exceeds_half(soft: Tensor) -> Tensor:
    return (soft > 0.5).to(soft.dtype)


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    # soft - soft is exactly 0, so the value stays exactly 0 or 1; (hard - soft) + soft would not.
    return hard.detach() + (soft - soft.detach())
