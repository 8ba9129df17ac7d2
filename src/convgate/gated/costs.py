"""The ledger of a planned network: a line for every node that multiplies, and the gates that its cost depends on.

Two sources must agree before a line may depend on gates: the MACs that were counted on the graph, and the formula of
`LayerCost` with every gate open. Where they differ, the layer does something else than the formula says (a convolution
that runs twice, a weight that is computed on the way), and the sites whose gates it depends on are given up.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from convgate.cost import LayerCost
from convgate.gated.plan import GateSpec, Site
from convgate.gated.skipping import LayerGates, layer_gates
from convgate.reading.part import Part
from convgate.reading.structure import Feature, Rejected, describe
from convgate.reading.trace import Trace

__all__ = ["accountable", "fill_macs", "head_macs", "layer_costs", "layer_names", "uncounted"]


def head_macs(spec: GateSpec, head: Any) -> int:
    """The MACs of a gate's head on one image: those of the map, or of the pooled one, that it reads."""
    return int(head.macs(spec.pooled or spec.shape[1:]))


def layer_names(trace: Trace, macs: Mapping[str, int]) -> dict[str, str]:
    """Counted node -> its line's name: the module's or the function's, with "#2" for its second call and so on."""
    calls: Counter[str] = Counter()
    names = {}
    for node in trace.evaluation.nodes:
        if node.name in macs:
            name = str(node.target) if node.op == "call_module" else f"{node.name}()"
            calls[name] += 1
            names[node.name] = name if calls[name] == 1 else f"{name}#{calls[name]}"
    return names


def layer_costs(
    trace: Trace, macs: Mapping[str, int], names: Mapping[str, str], reached: Mapping[str, LayerGates]
) -> tuple[LayerCost, ...]:
    """The ledger's lines, in the graph's order, for the nodes that `macs` counts and the gates that `reached` them."""
    return tuple(_layer_cost(trace, node, names[node], macs[node], reached.get(node)) for node in macs)


def accountable(
    trace: Trace, macs: Mapping[str, int], sites: Sequence[Site], found: Iterable[Feature]
) -> tuple[list[Site], list[Rejected]]:
    """The sites whose layers cost, with every gate open, what was counted; and the others, with the difference."""
    kept, features = list(sites), list(found)
    rejected: list[Rejected] = []
    while True:
        reached = layer_gates(trace, kept, features)
        reasons: dict[str, str] = {}
        for node, gates in reached.items():
            line = _layer_cost(trace, node, str(trace.node(node).target), macs.get(node, 0), gates)
            if line.open_macs != line.macs:
                reason = (
                    f"its layer {line.name} runs {line.macs:,} MACs where a convolution of its shape has "
                    f"{line.open_macs:,}, so that what its gates save is not known"
                )
                reasons |= dict.fromkeys(line.gates, reason)
        given_up = [site for site in kept if any(gate.name in reasons for gate in site.gates)]
        if not given_up:
            return kept, rejected
        for site in given_up:
            reason = next(reasons[gate.name] for gate in site.gates if gate.name in reasons)
            rejected.append(Rejected(site.name, reason))
        kept = [site for site in kept if site not in given_up]


def fill_macs(sites: Iterable[Site]) -> dict[str, int]:
    """What the sites' fill paths cost per sample, by their names."""
    gates = {gate.name: gate for site in sites for gate in site.gates}
    return {fill.path: fill.macs(gates[fill.gate]) for site in sites for fill in site.fills}


def uncounted(trace: Trace, macs: Mapping[str, int]) -> tuple[str, ...]:
    """Kinds of operations on tensors that run but cost no counted MACs, with how often: 'BatchNorm2d x20'.

    Of a part of a model also the sub-modules with weights that run outside of it, by name.
    """
    kinds = Counter(
        describe(trace, node).split(" ")[0]
        for node in trace.evaluation.nodes
        # Functions without a shape compute sizes and the like.
        if node.op == "call_module" or (node.op in ("call_function", "call_method") and node.name in trace.shapes)
        if node.name not in macs
    )
    outside = trace.module.outside if isinstance(trace.module, Part) else ()
    return (*outside, *(f"{kind} x{count}" for kind, count in kinds.most_common()))


def _layer_cost(trace: Trace, node: str, name: str, macs: int, gates: LayerGates | None) -> LayerCost:
    conv = trace.convolution(trace.node(node))
    if conv is None or gates is None:
        return LayerCost(name, macs)
    height, width = trace.shapes[node][2:]
    # A depthwise convolution whose two sides share a gate reads exactly the channels that it writes.
    inputs = None if gates.inputs == gates.outputs else gates.inputs
    return LayerCost(
        name=name,
        macs=macs,
        kernel_area=math.prod(conv.kernel_size),
        groups=conv.groups,
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        size=(height, width),
        positions=gates.positions.name if gates.positions else None,
        reach=gates.reach,
        inputs=inputs.name if inputs else None,
        outputs=gates.outputs.name if gates.outputs else None,
        input_group=inputs.group if inputs else 1,
        output_group=gates.outputs.group if gates.outputs else 1,
        activations=gates.activations.name if gates.activations else None,
        activation_group=gates.activations.group if gates.activations else 1,
        parts=gates.partial.parts if gates.partial else 1,
    )
