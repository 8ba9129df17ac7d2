"""What methods with channel gates have in common: the gate of a feature, and the features outside of branches."""

from collections.abc import Iterable

from convgate.gated.plan import GateSpec, MaskSpec, Site
from convgate.gating import ChannelGroups
from convgate.reading.structure import Branch, Feature, Rejected
from convgate.reading.trace import Trace

__all__ = ["channel_gate", "feature_site", "inside_branches", "outside_branches"]


def channel_gate(trace: Trace, feature: Feature, group: int = 1) -> GateSpec:
    """A gate for the feature's channels that reads what the feature's (first) convolution reads."""
    source = trace.node(feature.convs[0]).all_input_nodes[0]
    kind = ChannelGroups(feature.channels, group)
    return GateSpec.of(trace, f"{feature.name}.channel", kind, reads=source.name, on=feature.end)


def feature_site(trace: Trace, feature: Feature, gate: GateSpec) -> Site:
    """A site that is one feature, masked by `gate`."""
    mask = MaskSpec(gate.name, feature.end)
    return Site(feature.name, feature.convs, trace.shapes[feature.end], (gate,), (mask,))


def inside_branches(found: Iterable[Branch]) -> frozenset[str]:
    """The convolutions (node names) of the branches."""
    return frozenset(conv for branch in found for conv in branch.convs)


def outside_branches(
    trace: Trace, features: Iterable[Feature], inside: frozenset[str], *, everywhere: bool
) -> tuple[list[Feature], list[Rejected]]:
    """The features outside of residual branches that are gated: none unless `everywhere`, and none of the image's."""
    chosen: list[Feature] = []
    rejected: list[Rejected] = []
    for feature in features:
        if inside.intersection(feature.convs):
            continue
        if not everywhere:
            reason = 'is outside residual branches (where="everywhere" gates it)'
        elif trace.node(feature.convs[0]).all_input_nodes[0].op == "placeholder":
            reason = "reads the image itself"
        else:
            chosen.append(feature)
            continue
        rejected.extend(Rejected(str(trace.node(conv).target), reason) for conv in feature.convs)
    return chosen, rejected
