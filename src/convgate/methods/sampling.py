"""How sampled decisions are annealed: the temperature falls, and in the last part of the training there is no noise."""

from functools import partial

import torch

from convgate.gated.gate_set import GateSet
from convgate.gating import Progress, logistic_straight_through, ramp, threshold_straight_through

__all__ = ["anneal", "temperature_at"]


def temperature_at(progress: Progress, *, start: float, end: float | None, noise: float) -> Progress:
    """The temperature when the share `progress` of the training is done: exponentially from `start` to `end`, which it
    has reached when the noise ends (at the share `noise`); `start` throughout where `end` is None.

    >>> [temperature_at(progress, start=2.0, end=0.5, noise=0.8) for progress in (0.0, 0.4, 0.8, 0.9)]
    [2.0, 1.0, 0.5, 0.5]
    """
    if end is None:
        return start
    return start * (end / start) ** ramp(progress, 0.0, noise)


def anneal(gates: GateSet, progress: float, *, noise: float, start: float, end: float | None) -> None:
    """Let gates decide as they do at this point of the training: by samples, or, from the share `noise` on, without.

    Without noise they decide as in evaluation, and go on learning. A compiled network is not compiled anew each step:
    a temperature that does not fall stays the same object, and one that falls is a tensor.
    """
    rule = logistic_straight_through if progress < noise else threshold_straight_through
    temperature = temperature_at(progress, start=start, end=end, noise=noise)
    value = temperature if end is None else torch.tensor(temperature)
    for _, gate in GateSet.of(gates).named_gates():
        now = gate.estimator
        if (
            end is not None
            or not isinstance(now, partial)
            or (now.func, now.keywords) != (rule, {"temperature": value})
        ):
            gate.estimator = partial(rule, temperature=value)
