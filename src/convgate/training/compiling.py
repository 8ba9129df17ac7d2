"""Compiled training: what is compiled trains as it does otherwise."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._dynamo import config as compiling
from torch._functorch import config as differentiating

__all__ = ["as_otherwise", "compile_network", "compile_step"]

_NOISE_AS_OTHERWISE: dict[str, Any] = {"fallback_random": True}
# It is drawn by what draws it uncompiled.


def compile_step(compute: Callable[..., Any]) -> Callable[..., Any]:
    """`compute`, compiled by PyTorch for one size of batches."""
    return torch.compile(compute, dynamic=False, options=_NOISE_AS_OTHERWISE)


def compile_network(network: nn.Module) -> None:
    """Compile a network in place, for any size of batches."""
    network.compile(options=_NOISE_AS_OTHERWISE)


@contextmanager
def as_otherwise() -> Iterator[None]:
    """What is compiled in this context does what it does otherwise: gradients are not cast in the backward pass.

    PyTorch would compile the backward pass under autocast, if the forward pass is: products of masks' gradients are
    then rounded to bfloat16, which they are not otherwise. A method may schedule a number, with which each part of each
    stage is compiled anew; nothing ends that in silence.
    """
    with differentiating.patch(backward_pass_autocast="off"), compiling.patch(recompile_limit=sys.maxsize):
        yield
