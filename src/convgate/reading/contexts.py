"""Regions of a model's forward that change how operations run: gradient mode and automatic mixed precision.

`torch.fx` records operations and not the `with` blocks around them, so that a stem under `torch.no_grad()` would get
gradients after reading. Each block is therefore recorded as two nodes, one where it begins and one where it ends.
They have effects (and no value that others read), so that they stay where they are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

__all__ = ["CONTEXTS", "enter_autocast", "has_contexts", "leave_autocast", "preserving_contexts", "set_grad"]


def set_grad(enabled: bool, within: bool | None = None) -> bool:
    """Switch the recording of gradients on or off and return what it was before.

    `within` is what it was where the block began: a block ends with `set_grad(.., within)`, so that a network that
    runs under `torch.no_grad()` as a whole stays under it.
    """
    before = torch.is_grad_enabled()
    torch._C._set_grad_enabled(enabled if within is None else within)
    return before


def enter_autocast(device_type: str, dtype: torch.dtype, enabled: bool, cache: bool) -> Any:
    """Begin a region of `torch.autocast` and return it, for `leave_autocast`."""
    region = torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=cache)
    region.__enter__()
    return region


def leave_autocast(region: Any) -> None:
    """End a region of `torch.autocast`."""
    region.__exit__(None, None, None)


CONTEXTS: tuple[Callable[..., Any], ...] = (set_grad, enter_autocast, leave_autocast)
"""The functions of nodes that begin or end a region."""


def has_contexts(graph: fx.Graph) -> bool:
    """Whether a graph has regions of its own."""
    return any(node.op == "call_function" and node.target in CONTEXTS for node in graph.nodes)


@contextmanager
def preserving_contexts(device_type: str) -> Iterator[None]:
    """Put gradient mode and autocast back at the end of the block, also when an operation inside a region fails."""
    grad = torch.is_grad_enabled()
    enabled, dtype = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)
    cache = torch.is_autocast_cache_enabled()
    try:
        yield
    finally:
        torch._C._set_grad_enabled(grad)
        torch.set_autocast_enabled(device_type, enabled)
        torch.set_autocast_dtype(device_type, dtype)
        torch.set_autocast_cache_enabled(cache)
