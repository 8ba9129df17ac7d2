"""Decisions in training whose noise fades, so that training ends where evaluation is."""

import torch
from torch import Tensor

from convgate.gated import GatedNetwork
from convgate.gating import threshold_straight_through

__all__ = ["set_noise"]


class _Annealed:
    """1 where logits plus scaled logistic noise reach 0; the gradient is that of a sigmoid at a temperature."""

    def __init__(self, noise: float, temperature: float) -> None:
        self.noise, self.temperature = noise, temperature

    def __call__(self, logits: Tensor, *shared: object) -> Tensor:
        if self.noise > 0:
            u = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
            logits = logits + self.noise * torch.logit(u)
        return threshold_straight_through(logits, self.temperature)


def set_noise(network: GatedNetwork, noise: float, temperature: float) -> None:
    """From now on all gates decide with this noise in training: 1 is logistic noise, 0 the masks of evaluation."""
    estimator = _Annealed(noise, temperature)
    for _, gate in network.gate_modules():
        gate.estimator = estimator
