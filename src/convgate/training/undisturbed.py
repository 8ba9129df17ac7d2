"""Leave the process as it was found: threads and random numbers belong to the caller."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["undisturbed"]


@contextmanager
def undisturbed(threads: int | None = None) -> Iterator[None]:
    """Run a block with so many PyTorch threads (None: as it is); afterwards threads and random states are as before.

    >>> import torch
    >>> before = torch.get_rng_state()
    >>> with undisturbed(threads=1):
    ...     noise = torch.randn(3)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    before = torch.get_num_threads()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before)
