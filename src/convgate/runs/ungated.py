"""The MACs of a network without gates on the images of a set."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from convgate.cost import count_macs, node_macs
from convgate.gated import find_part
from convgate.reading.given import given_to
from convgate.reading.modes import evaluating
from convgate.tasks.task import Task

__all__ = ["ungated_macs"]


@torch.no_grad()
def ungated_macs(network: nn.Module, images: Any, task: Task) -> int:
    """The mean over the images of a set, each of its own size.

    Of a detector what can be gated is counted, as `GatedModel.ledger` does: the convolutional part, for images as the
    detector prepares them.
    """
    if task.whole_images:
        return count_macs(network, task.example(images).shape[1:])
    example = task.example(images)
    part = None if isinstance(example, Tensor) else find_part(network, example)
    sizes: Counter[tuple[int, ...]] = Counter()
    with evaluating(network):
        for number in range(len(images)):
            x = task.prepared(images, images.batch([number])[0])
            sizes[tuple(x.shape[1:]) if part is None else _shape(network, part.part.names[0], x)] += 1
    counted = {
        size: count_macs(network, size) if part is None else sum(node_macs(part.trace, size).values()) for size in sizes
    }
    return round(sum(counted[size] * n for size, n in sizes.items()) / len(images))


def _shape(network: nn.Module, first: str, x: Any) -> tuple[int, ...]:
    """The shape [C, H, W] of what the sub-module `first` is given for the images `x`."""
    return tuple(given_to(network.get_submodule(first), network, x).shape[1:])
