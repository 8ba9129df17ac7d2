"""What masks let a network skip: for each convolution, the gates that close its positions, outputs and inputs.

A convolution need not compute the positions and output channels that a mask zeroes at the end of its
conv(+norm)(+activation), nor read the input channels that a mask zeroed before it. A convolution whose output only a
depthwise convolution reads need not compute the channels that are closed there. One that is computed in part need not
complete its closed activations. That is all; what is not derived here is computed, and counted, in full.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from convgate.gated.plan import GateSpec, PartialSpec, Site
from convgate.gating import NO_REACH, ChannelGroups, Reach, Tiles
from convgate.reading.structure import Feature, chain_end
from convgate.reading.trace import Trace

__all__ = ["LayerGates", "layer_gates"]


@dataclass(frozen=True)
class LayerGates:
    """The gates that decide what of one convolution is computed; see `convgate.cost.LayerCost`.

    The mask of `positions` is dilated by `reach` rows and columns. `activations` is the gate of the part of the sum
    that is not the base path's, `partial`.
    """

    positions: GateSpec | None = None
    reach: Reach = NO_REACH
    inputs: GateSpec | None = None
    outputs: GateSpec | None = None
    activations: GateSpec | None = None
    partial: PartialSpec | None = None


def layer_gates(trace: Trace, sites: Sequence[Site], found: Iterable[Feature]) -> Mapping[str, LayerGates]:
    """Convolution (node name) -> its gates, for all that the sites' masks reach."""
    gates = {gate.name: gate for site in sites for gate in site.gates}
    tiles: dict[str, tuple[GateSpec, Reach]] = {}
    channels: dict[str, GateSpec] = {}
    for site in sites:
        for mask in site.masks:
            match gates[mask.gate].kind:
                case Tiles():
                    tiles[mask.node] = gates[mask.gate], mask.reach
                case ChannelGroups():
                    channels[mask.node] = gates[mask.gate]
    layers: dict[str, LayerGates] = {}
    for node in trace.evaluation.nodes:
        if trace.convolution(node):
            end = chain_end(trace, node).name
            positions, reach = tiles.get(end, (None, NO_REACH))
            layers[node.name] = LayerGates(positions, reach, outputs=channels.get(end))
    for feature in found:
        gate = channels.get(feature.end)
        if gate is None:
            continue
        for conv in feature.convs:
            layers[conv] = replace(layers[conv], outputs=gate)
        for conv in feature.readers:
            layers[conv] = replace(layers[conv], inputs=gate)
    for partial in (partial for site in sites for partial in site.partials):
        layers[partial.conv] = replace(layers[partial.conv], activations=gates[partial.gate], partial=partial)
    return {conv: gates for conv, gates in layers.items() if gates != LayerGates()}
