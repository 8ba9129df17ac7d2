"""torch.compile, by PyTorch's own compiler or by AMD's (zentorch), in float32 and in bfloat16."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from convgate.bench.built import Built, Workload

__all__ = ["bf16", "float32", "in_torch", "zen_bf16", "zen_float32"]


def float32(work: Workload, _threads: int) -> Built:
    """Weights frozen."""
    return _build(work, torch.float32)


def bf16(work: Workload, _threads: int) -> Built:
    """Weights frozen; weights, maps and results in bfloat16."""
    return _build(work, torch.bfloat16)


def zen_float32(work: Workload, _threads: int) -> Built:
    """By zentorch."""
    return _build_zen(work, torch.float32)


def zen_bf16(work: Workload, _threads: int) -> Built:
    """By zentorch; weights, maps and results in bfloat16."""
    return _build_zen(work, torch.bfloat16)


def in_torch(module: Any, mode: Callable[[], Any], dtype: torch.dtype = torch.float32) -> Callable[[np.ndarray], Any]:
    """A call of a module, under a mode such as `torch.no_grad`."""

    def call(images: np.ndarray) -> Any:
        with mode():
            outputs = module(torch.from_numpy(images).to(dtype))
            return pytree.tree_map(lambda leaf: leaf.float().numpy(), outputs)

    return call


def _build_zen(work: Workload, dtype: torch.dtype) -> Built:
    import zentorch  # noqa: F401 -- its backend is there once it is imported

    return _build(work, dtype, backend="zentorch")


def _build(work: Workload, dtype: torch.dtype, backend: str = "inductor") -> Built:
    # Frozen: weights become constants, norms are folded into them, and layouts are chosen for the processor. Freezing
    # needs the plain no_grad. A copy: what torch.compile leaves on a module is not the eager row's.
    torch.compiler.reset()
    options: dict[str, Any] | None = {"freezing": True} if backend == "inductor" else None
    network = copy.deepcopy(work.dense).to(dtype)
    compiled = torch.compile(network, backend=backend, options=options, dynamic=False)
    call = in_torch(compiled, torch.no_grad, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about its own code
        for images in work.inputs:
            call(images)
    return Built(call, "frozen" if options else "")
