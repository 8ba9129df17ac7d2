"""The two verbs: plan what a method would gate in a model, and gate it."""

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from convgate.cost import LayerCost, Ledger
from convgate.errors import InputError, PlanError
from convgate.gated.method import Method
from convgate.gated.network import GatedNetwork
from convgate.gated.plan import GateSpec, Plan
from convgate.gated.skipping import LayerGates, layer_gates
from convgate.models import identify
from convgate.reading.structure import describe, features
from convgate.reading.trace import Trace, count_macs, trace

__all__ = ["gate", "layer_names", "plan"]


def plan(model: nn.Module, method: Method, example: Tensor) -> Plan:
    """What `gate` would do to `model`: every site, gated or skipped and why. The model stays as it is.

    Args:
        model: a CNN; `torch.fx` must be able to trace it.
        method: e.g. `convgate.DualGating()`.
        example: float images [N, C, H, W] as the model takes them; only the shape matters.

    Raises:
        TraceError: the model cannot be traced or does not take the example.
        PlanError: an option of the method does not suit the model.
        InputError: an argument of the wrong kind, or an example that is no batch of images.

    """
    _check(model, method)
    return _plan(model, trace(model, example), method)


def gate(model: nn.Module, method: Method, example: Tensor) -> GatedNetwork:
    """A gated copy of `model`: same weights, same state-dict keys, and all that is added under `convgate.`.

    Takes and raises what `plan` does, and raises `PlanError` when there is nothing to gate. The new network is in the
    model's mode (training or evaluation) and on its device.
    """
    _check(model, method)
    traced = trace(model, example)
    planned = _plan(model, traced, method)
    if not planned.sites:
        raise PlanError(f"{planned.method['name']} finds nothing to gate in {planned.model}:\n{planned}")
    network = GatedNetwork(traced, planned, method)
    parameter = next(model.parameters(), None)
    if parameter is not None:
        network.convgate.to(parameter.device, parameter.dtype)
    return network


def _check(model: nn.Module, method: Method) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}; give a torch.nn.Module")
    if isinstance(model, GatedNetwork):
        raise InputError("the model is gated already; give the one that it was made from")
    if isinstance(getattr(model, "_orig_mod", None), nn.Module):
        raise InputError("the model is compiled; gate the one it was compiled from, then compile the gated network")
    if not isinstance(method, Method):
        given = getattr(method, "__name__", type(method).__name__)
        raise InputError(f"the method is {given}; give an instance of a method, e.g. convgate.DualGating()")


def _plan(model: nn.Module, traced: Trace, method: Method) -> Plan:
    sites, skipped = method.sites(traced)
    reached = layer_gates(traced, sites, features(traced)[0])
    names = layer_names(traced)
    with torch.device("meta"):  # to read off costs; draws no random numbers
        trunk = method.trunk(traced.example)
        heads = {spec.name: (spec, method.gate(spec).head) for site in sites for spec in site.gates}
    gates = {} if trunk is None else {"trunk": count_macs(trunk, traced.example)}
    gates |= {name: _head_macs(spec, head) for name, (spec, head) in heads.items()}
    layers = tuple(_layer_cost(traced, node, names[node], reached.get(node)) for node in traced.macs)
    return Plan(
        model=type(model).__name__,
        spec=identify(model),
        method=method.describe(),
        example=traced.example,
        sites=tuple(sites),
        skipped=tuple(skipped),
        ledger=Ledger(layers, gates, _uncounted(traced)),
        layer_names=names,
        fingerprint=traced.fingerprint(),
    )


def _head_macs(spec: GateSpec, head: nn.Module) -> int:
    count: Any = head.macs
    return int(count(spec.pooled or spec.shape[1:]))


def layer_names(traced: Trace) -> dict[str, str]:
    """Node -> the name of its layer: the module's or the function's, with "#2" for its second call and so on."""
    calls: Counter[str] = Counter()
    names = {}
    for node in traced.evaluation.nodes:
        if node.name in traced.macs:
            name = str(node.target) if node.op == "call_module" else f"{node.name}()"
            calls[name] += 1
            names[node.name] = name if calls[name] == 1 else f"{name}#{calls[name]}"
    return names


def _layer_cost(traced: Trace, node: str, name: str, gates: LayerGates | None) -> LayerCost:
    conv = traced.convolution(traced.node(node))
    if conv is None or gates is None:
        return LayerCost(name, traced.macs[node])
    height, width = traced.shapes[node][2:]
    # A depthwise convolution whose two sides share a gate reads exactly the channels that it writes.
    inputs = None if gates.inputs == gates.outputs else gates.inputs
    return LayerCost(
        name=name,
        macs=traced.macs[node],
        kernel_area=math.prod(conv.kernel_size),
        groups=conv.groups,
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        size=(height, width),
        positions=gates.positions.name if gates.positions else None,
        inputs=inputs.name if inputs else None,
        outputs=gates.outputs.name if gates.outputs else None,
        input_group=inputs.group if inputs else 1,
        output_group=gates.outputs.group if gates.outputs else 1,
        activations=gates.activations.name if gates.activations else None,
        activation_group=gates.activations.group if gates.activations else 1,
        parts=gates.partial.parts if gates.partial else 1,
    )


def _uncounted(traced: Trace) -> tuple[str, ...]:
    """Kinds of operations that run but cost no counted MACs, with how often: 'BatchNorm2d x20'."""
    kinds = Counter(
        describe(traced, node).split(" ")[0]
        for node in traced.evaluation.nodes
        if node.op in ("call_module", "call_function", "call_method") and node.name not in traced.macs
    )
    return tuple(f"{kind} x{count}" for kind, count in kinds.most_common())
