"""Random draws while a model is read: put back, and found, since a graph would freeze what was drawn."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["preserving_random_state", "random_state", "who_drew"]


def random_state() -> tuple[Any, Any, torch.Tensor]:
    """The states of the generators of `random`, NumPy and PyTorch (CPU)."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def who_drew(before: tuple[Any, Any, torch.Tensor]) -> str | None:
    """The library whose generator has moved on since `before` was taken with `random_state`, or None."""
    python, numpy, pytorch = random_state()
    if python != before[0]:
        return "random"
    if numpy[2:] != before[1][2:] or not np.array_equal(numpy[1], before[1][1]):
        return "numpy.random"
    return None if torch.equal(pytorch, before[2]) else "torch"


@contextmanager
def preserving_random_state() -> Iterator[None]:
    """Put the generators back at the end of the block, so that it does not change what is drawn after it."""
    python, numpy, pytorch = random_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)
