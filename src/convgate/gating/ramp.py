"""How far something has come that changes evenly over a part of the training."""

from torch import Tensor

__all__ = ["Progress", "ramp"]

Progress = float | Tensor
"""The share of the training that is done, in [0, 1): a number, or a tensor that holds one, where steps are recorded."""


def ramp(progress: Progress, start: float, end: float) -> Progress:
    """0 up to `start`, 1 from `end` on, and even in between; a tensor if `progress` is one.

    >>> [ramp(progress, 0.25, 0.75) for progress in (0.0, 0.25, 0.5, 0.75, 0.9)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    >>> [ramp(progress, 0.2, 0.2) for progress in (0.1, 0.2)]
    [0.0, 1.0]
    """
    if isinstance(progress, Tensor):
        if end == start:
            return (progress >= start).to(progress.dtype)
        return ((progress - start) / (end - start)).clamp(0.0, 1.0)
    if end == start:
        return float(progress >= start)
    return min(max((progress - start) / (end - start), 0.0), 1.0)
