"""Straight-through estimators: a hard 0/1 decision forward, a smooth gradient backward.

Each takes logits (float, any shape) and returns a float mask of that shape that is exactly 0 or 1 (Improved SemHash:
for some samples what lies between).
"""

import torch
from torch import Tensor

__all__ = ["decide", "improved_semhash", "logistic_straight_through", "threshold_straight_through"]


def decide(logits: Tensor) -> Tensor:
    """The decision in evaluation: 1 where the logit is >= 0."""
    return (logits >= 0).to(logits.dtype)


def threshold_straight_through(logits: Tensor, temperature: float) -> Tensor:
    """The noise-free decision, with the gradient of sigmoid(logits / temperature)."""
    return _straight_through(decide(logits), torch.sigmoid(logits / temperature))


def logistic_straight_through(logits: Tensor, temperature: float) -> Tensor:
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


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    # soft - soft is exactly 0, so the value stays exactly 0 or 1; (hard - soft) + soft would not.
    return hard.detach() + (soft - soft.detach())
