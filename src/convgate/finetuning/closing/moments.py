"""Second moments of what layers read: how well some channels foretell others, and what closing costs at most."""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.finetuning.closing.readers import Closable
from convgate.gated import GatedNetwork
from convgate.reading.modes import evaluating

__all__ = ["moments", "rows", "sampled", "with_one"]

_POSITIONS = 400
# Of an image: neighbouring positions are much alike, so more of them say little more.


@torch.no_grad()
def moments(network: GatedNetwork, gates: Sequence[Closable], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Gate -> E[x x'] with x the channels that its first reader reads, and a 1, at a position: float64 [C + 1, C + 1].

    The network runs in evaluation mode, so that what is closed is zero. Gates without readers have none.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def add(gate: str, x: Tensor) -> None:
        x = x.detach().float()
        points = with_one(sampled(x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]), _POSITIONS * len(x)))
        product = (points.T @ points).cpu().double()
        sums[gate] = sums[gate] + product if gate in sums else product
        counts[gate] = counts.get(gate, 0) + len(points)

    hooks = [
        network.get_submodule(gate.readers[0].layer).register_forward_pre_hook(
            lambda _, given, gate=gate.gate: add(gate, given[0])
        )
        for gate in gates
        if gate.readers
    ]
    try:
        with evaluating(network):
            for images in batches:
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {gate: total / counts[gate] for gate, total in sums.items()}


def rows(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What a convolution multiplies with its weights [O, C k k], a row for each position of its output."""
    if layer.kernel_size == (1, 1) and layer.padding in ((0, 0), "valid"):
        x = x[:, :, :: layer.stride[0], :: layer.stride[1]]
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    x, padding = _padded(layer, x)
    patches = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def sampled(points: Tensor, most: int) -> Tensor:
    """At most so many of the rows, evenly spread."""
    step = max(math.ceil(len(points) / max(most, 1)), 1)
    return points[::step]


def with_one(points: Tensor) -> Tensor:
    """Rows with a 1 at their end, for the constant."""
    return torch.cat([points, points.new_ones(len(points), 1)], 1)


def _padded(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return x, (layer.padding[0], layer.padding[1])
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=mode), (0, 0)
