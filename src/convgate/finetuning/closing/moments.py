"""Second moments of what layers read: how well some channels foretell others, and what closing costs at most."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgate.finetuning.closing.readers import Closable
from convgate.gated import GatedNetwork
from convgate.reading.modes import evaluating

__all__ = ["moments", "output_size", "rows", "some_places", "with_one"]

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
        x = x.flatten(2)[:, :, some_places(x.shape[2] * x.shape[3], _POSITIONS).to(x.device)]
        points = with_one(x.transpose(1, 2).reshape(-1, x.shape[1]))
        with torch.autocast(x.device.type, enabled=False):
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


def rows(layer: nn.Conv2d, x: Tensor, places: Tensor) -> Tensor:
    """What a convolution multiplies with its weights [O, C k k]: a row for each image and chosen position.

    Args:
        layer: not grouped.
        x: what it reads [N, C, H, W].
        places: positions of its output, int64 [P], counted along its lines; see `output_size`.

    """
    x = _padded(layer, x.float())
    width = output_size(layer, x, padded=True)[1]
    places = places.to(x.device)
    taps = [
        torch.arange(size, device=x.device) * step for size, step in zip(layer.kernel_size, layer.dilation, strict=True)
    ]
    down = (places // width * layer.stride[0])[:, None, None] + taps[0][:, None]
    across = (places % width * layer.stride[1])[:, None, None] + taps[1]
    return x[:, :, down, across].permute(0, 2, 1, 3, 4).reshape(len(x) * len(places), -1)


def output_size(layer: nn.Conv2d, x: Tensor, *, padded: bool = False) -> tuple[int, int]:
    """(height, width) of what a convolution makes of `x` [N, C, H, W], which may be padded already."""
    size = x.shape[2:] if padded else _padded(layer, x[:1, :1]).shape[2:]
    reach = [(k - 1) * d for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    height, width = ((n - r - 1) // s + 1 for n, r, s in zip(size, reach, layer.stride, strict=True))
    return height, width


def some_places(count: int, most: int) -> Tensor:
    """At most so many of `count` positions, drawn by the global generator: int64."""
    return torch.randperm(count)[: max(most, 1)]


def with_one(points: Tensor) -> Tensor:
    """Rows with a 1 at their end, for the constant."""
    return torch.cat([points, points.new_ones(len(points), 1)], 1)


def _padded(layer: nn.Conv2d, x: Tensor) -> Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
