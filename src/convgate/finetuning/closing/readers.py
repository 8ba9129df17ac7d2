"""Which layers read the channels that a gate closes, so that others of its channels can take their place."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convgate.gated import GatedNetwork
from convgate.gating import ChannelGroups
from convgate.gating.masks import expand_channels
from convgate.reading.norms import is_fixed_norm
from convgate.reading.structure import Feature, features
from convgate.reading.trace import Trace, trace

__all__ = ["Closable", "Reader", "closable", "read_dense"]


@dataclass(frozen=True)
class Reader:
    """A convolution that reads a feature: its node, its layer, the batch norm behind it, which takes what is constant
    (None: there is none), and whether anything takes it: that norm, or the layer's own bias.
    """

    node: str
    layer: str
    norm: str | None
    takes_constants: bool


@dataclass(frozen=True)
class Closable:
    """A gate of channel groups whose units can be closed for every image: `units` of `group` channels each, of which
    the last has fewer where `group` does not divide the `channels`.

    `readers` are empty where the feature's readers mix it with others or read it in groups: nothing could make up for
    what is closed there, so such gates stay open. `feature` is what the gate masks, where that is one feature.
    """

    gate: str
    units: int
    group: int
    channels: int
    readers: tuple[Reader, ...]
    feature: Feature | None = None

    def spread(self, units: Tensor) -> Tensor:
        """What is said of the units, said of their channels: [units] to [channels]."""
        return expand_channels(units.view(1, -1, 1, 1), self.channels, self.group).flatten()


def read_dense(network: GatedNetwork) -> tuple[nn.Module, Trace]:
    """(a copy of the dense network in evaluation mode, its graphs)."""
    dense = network.dense().eval()
    example = torch.zeros(network.plan.example, device=next(network.buffers()).device)
    return dense, trace(dense, example, block_hooks=True)


def closable(network: GatedNetwork, read: Trace | None = None) -> list[Closable]:
    """The gates of channel groups, in the plan's order, with the layers that read what they mask.

    Args:
        network: a gated network.
        read: the dense network's graphs, if it was read already (`read_dense`).

    """
    read = read_dense(network)[1] if read is None else read
    by_end = {feature.end: feature for feature in features(read)[0]}
    masked: dict[str, list[str]] = {}
    for site in network.plan.sites:
        for mask in site.masks:
            masked.setdefault(mask.gate, []).append(mask.node)
    found = []
    for spec in network.plan.gates:
        if not isinstance(spec.kind, ChannelGroups):
            continue
        nodes = masked.get(spec.name, [])
        feature = by_end.get(nodes[0]) if len(nodes) == 1 else None
        readers: list[Reader] = []
        for name in feature.readers if feature else ():
            node = read.node(name)
            layer = read.layer(node)
            if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or layer.in_channels != spec.kind.channels:
                readers.clear()
                break
            users = list(node.users)
            behind = read.layer(users[0]) if len(users) == 1 else None
            fits = behind is not None and is_fixed_norm(behind) and layer.bias is None
            norm = str(users[0].target) if fits else None
            readers.append(Reader(name, str(node.target), norm, fits or layer.bias is not None))
        kind = spec.kind
        found.append(Closable(spec.name, spec.units, kind.group, kind.channels, tuple(readers), feature))
    return found
