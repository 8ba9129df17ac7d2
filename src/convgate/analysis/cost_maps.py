"""Where in an image the MACs were spent."""

import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.gated import GatedNetwork
from convgate.gating import Decisions, Reach, dilate, expand_tiles

__all__ = ["cost_maps"]


def cost_maps(network: GatedNetwork, decisions: Decisions, size: tuple[int, int] | None = None) -> Tensor:
    """MACs per pixel of each image, float32 [N, H, W]; a map sums to what its image cost, gate heads left out.

    A layer's MACs lie evenly on the positions that it computed, and a position's on the pixels that it covers (nearest
    neighbour). Layers without a spatial gate compute every position; of layers with an activation gate the MACs of each
    position are known.

    Args:
        network: the gated network.
        decisions: what it decided for a batch of N.
        size: H and W of the maps; those of the images that were decided for unless given.

    """
    height, width = size or decisions.size or network.plan.size
    if min(height, width) < 1:
        raise InputError(f"cost_maps(size={size}): give a height and a width of at least 1 pixel")
    decisions = decisions.detach()
    spent = network.cost(decisions).by_layer
    even = torch.zeros(decisions.batch_size, dtype=torch.float64, device=next(iter(spent.values())).device)
    # Layers that share a mask and a resolution share a map, so each map is resampled once.
    tiled: dict[tuple[str, tuple[int, int], Reach], Tensor] = {}
    known: dict[tuple[int, int], Tensor] = {}
    for layer in network.ledger_for(decisions).layers:
        if layer.activations is not None:
            there = layer.by_position(decisions[layer.activations].mask).double()
            known[layer.size] = known.get(layer.size, 0) + there
        elif layer.positions is None:
            even += spent[layer.name]
        else:
            key = layer.positions, layer.size, layer.reach
            tiled[key] = tiled.get(key, 0) + spent[layer.name].double()
    maps = (even / (height * width)).view(-1, 1, 1).repeat(1, height, width)
    for (gate, resolution, reach), macs in tiled.items():
        positions = dilate(expand_tiles(decisions[gate].mask, resolution), reach).squeeze(1).double()
        # Where every position is closed, nothing was spent: the clamp only keeps 0 / 0 away.
        positions *= (macs / positions.sum((1, 2)).clamp(min=1)).view(-1, 1, 1)
        known[resolution] = known.get(resolution, 0) + positions
    for resolution, positions in known.items():
        rows, columns = (_spread(a, b).to(maps) for a, b in zip(resolution, (height, width), strict=True))
        maps += rows @ positions @ columns.T
    return maps.float()


def _spread(positions: int, pixels: int) -> Tensor:
    """How one side's positions lie on its pixels: float64 [pixels, positions], each column summing to 1."""
    finer, coarser = max(positions, pixels), min(positions, pixels)
    nearest = torch.arange(finer) * coarser // finer
    member = torch.nn.functional.one_hot(nearest, coarser).double()
    # Several pixels to a position share its MACs; several positions to a pixel add up.
    return member / member.sum(0) if pixels >= positions else member.T
