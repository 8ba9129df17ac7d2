"""The two verbs: plan what a method would gate in a model, and gate it."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from convgate.cost import LayerCost, Ledger
from convgate.errors import PlanError
from convgate.graph.network import GatedNetwork
from convgate.graph.plan import LayerGates, Plan, Site
from convgate.graph.structure import describe
from convgate.graph.trace import Trace, trace

if TYPE_CHECKING:
    from convgate.methods import Method

__all__ = ["gate", "plan"]


def plan(model: nn.Module, method: "Method", example: Tensor) -> Plan:
    """What `gate` would do to `model`: every site, gated or skipped and why. The model stays as it is.

    Args:
        model: a CNN; `torch.fx` must be able to trace it.
        method: e.g. `convgate.DualGating()`.
        example: float images [N, C, H, W] as the model takes them; only the shape matters.

    Raises:
        TraceError: the model cannot be traced or does not take the example.
        PlanError: an option of the method does not suit the model.

    """
    return _plan(trace(model, example), method, type(model).__name__)


def gate(model: nn.Module, method: "Method", example: Tensor) -> GatedNetwork:
    """A gated copy of `model`: same weights, same state-dict keys, and gates under `gates.`.

    Takes and raises what `plan` does, and raises `PlanError` when there is nothing to gate. The new network is in the
    model's mode (training or evaluation) and on its device.
    """
    traced = trace(model, example)
    planned = _plan(traced, method, type(model).__name__)
    if not planned.sites:
        raise PlanError(f"{planned.method['name']} finds nothing to gate in {planned.model}:\n{planned}")
    network = GatedNetwork(traced, planned, method)
    parameter = next(model.parameters(), None)
    return network if parameter is None else network.to(parameter.device)


def _plan(traced: Trace, method: "Method", model: str) -> Plan:
    sites, skipped = method.sites(traced)
    names = _layer_names(traced)
    gates = {spec.name: int(method.gate(spec).head.macs) for site in sites for spec in site.gates}  # type: ignore[arg-type]
    layers = tuple(_layer_cost(traced, name, names[name], sites) for name in traced.macs)
    return Plan(
        model=model,
        method=method.describe(),
        example=traced.example,
        sites=tuple(sites),
        skipped=tuple(skipped),
        ledger=Ledger(layers, gates, _uncounted(traced)),
        layer_names=names,
    )


def _layer_names(traced: Trace) -> dict[str, str]:
    """Node -> the name of its layer: the module's, or the node's own where a module is called more than once."""
    calls = Counter(str(n.target) for n in traced.evaluation.nodes if n.op == "call_module")
    return {
        node.name: str(node.target) if node.op == "call_module" and calls[str(node.target)] == 1 else node.name
        for node in traced.evaluation.nodes
        if node.name in traced.macs
    }


def _layer_cost(traced: Trace, node: str, name: str, sites: Sequence[Site]) -> LayerCost:
    conv = traced.convolution(traced.node(node))
    found = [site.layers[node] for site in sites if node in site.layers]
    if conv is None or not found:
        return LayerCost(name, traced.macs[node])
    gates = LayerGates(
        positions=next((g.positions for g in found if g.positions), None),
        inputs=next((g.inputs for g in found if g.inputs), None),
        outputs=next((g.outputs for g in found if g.outputs), None),
    )
    group = {spec.name: spec.group for site in sites for spec in site.gates}
    height, width = traced.shapes[node][2:]
    return LayerCost(
        name=name,
        macs=traced.macs[node],
        kernel_area=math.prod(conv.kernel_size),
        groups=conv.groups,
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        size=(height, width),
        positions=gates.positions,
        inputs=gates.inputs,
        outputs=gates.outputs,
        input_group=group.get(gates.inputs or "", 1),
        output_group=group.get(gates.outputs or "", 1),
    )


def _uncounted(traced: Trace) -> tuple[str, ...]:
    """Kinds of operations that run but cost no counted MACs, with how often: 'BatchNorm2d x20'."""
    kinds = Counter(
        describe(traced, node).split(" ")[0]
        for node in traced.evaluation.nodes
        if node.op in ("call_module", "call_function", "call_method") and node.name not in traced.macs
    )
    return tuple(f"{kind} x{count}" for kind, count in kinds.most_common())
