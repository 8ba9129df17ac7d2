"""Leave the process as it was found: threads and random numbers belong to the caller."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["undisturbed"]


@contextmanager
def undisturbed(threads: int | None = None) -> Iterator[None]:
    """Run a block with so many PyTorch threads (None: as it is); afterwards threads and random states are as before.

    Random states are those of the global generators: PyTorch's on every device, Python's and NumPy's.

    >>> import torch
    >>> before = torch.get_rng_state()
    >>> with undisturbed(threads=1):
    ...     noise = torch.randn(3)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    before, state, numpy_state = torch.get_num_threads(), random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before)
            random.setstate(state)
            np.random.set_state(numpy_state)
