"""ExecuTorch with XNNPACK, in float32."""

import warnings
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from convgate.bench.built import Built, Workload, by_size

__all__ = ["float32"]


def float32(work: Workload, threads: int) -> Built:
    """What XNNPACK can compute is its own, the rest ExecuTorch's portable kernels."""
    return Built(by_size(work, lambda images: _call(work, images, threads)))


def _call(work: Workload, images: np.ndarray, threads: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about its own code
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        exported = torch.export.export(work.dense, (torch.from_numpy(images),))
        made = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    # Of its own threads it has as many as there are cores, unless it is told before they are used.
    portable_lib._unsafe_reset_threadpool(threads)
    # A method reads its program, and that the buffer, neither of which it keeps.
    buffer = made.buffer
    program = Runtime.get().load_program(buffer)
    method = program.load_method("forward")

    def call(images: np.ndarray, _kept: Any = (buffer, program)) -> Any:
        return pytree.tree_map(lambda leaf: leaf.numpy(), method.execute([torch.from_numpy(images)]))

    return call
