"""Straight-through estimators: a hard 0/1 decision forward, a smooth gradient backward.

Each takes logits (float, any shape) and returns a float mask of that shape that is exactly 0 or 1.
"""

import torch
from torch import Tensor

__all__ = ["decide", "logistic_straight_through", "threshold_straight_through"]


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


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    # soft - soft is exactly 0, so the value stays exactly 0 or 1; (hard - soft) + soft would not.
    return hard.detach() + (soft - soft.detach())
