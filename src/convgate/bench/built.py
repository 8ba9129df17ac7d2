"""An engine ready to be timed: a function from images to outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import nn

__all__ = ["Built", "Call", "Workload", "by_size"]

Call = Callable[[np.ndarray], Any]
"""float32 [N, C, H, W] -> float32 [N, ...], or several of them in tuples, lists or mappings."""


@dataclass(frozen=True, eq=False)
class Built:
    """An engine ready to be called; `note` is what a reader must know, `engine` convgate's own, where it is one."""

    call: Call
    note: str = ""
    engine: Any = None


class Workload(Protocol):
    """What runtimes are built for: a dense network in evaluation, and images, float32 [N, C, H, W].

    `inputs` are those that it is timed on, `scales` those that choose the scales of 8-bit integers.
    """

    @property
    def dense(self) -> nn.Module: ...

    @property
    def inputs(self) -> Sequence[np.ndarray]: ...

    @property
    def scales(self) -> Sequence[np.ndarray]: ...


def by_size(work: Workload, build: Callable[[np.ndarray], Call]) -> Call:
    """A call that takes each input to what `build` makes for its shape: most runtimes are fastest for one they know."""
    first = {images.shape: images for images in reversed(work.inputs)}
    calls = {shape: build(images) for shape, images in first.items()}
    return lambda images: calls[images.shape](images)
