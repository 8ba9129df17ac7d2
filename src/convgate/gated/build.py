"""The two verbs: plan what a method would gate in a model, and gate it."""

from typing import Any

import torch
from torch import Tensor, nn

from convgate.cost import Ledger, count_macs, node_macs
from convgate.errors import InputError, PlanError
from convgate.gated.costs import accountable, layer_costs, layer_names, uncounted
from convgate.gated.method import Method
from convgate.gated.network import GatedNetwork
from convgate.gated.plan import GateSpec, Plan
from convgate.gated.skipping import layer_gates
from convgate.models import identify
from convgate.reading.structure import features
from convgate.reading.trace import Trace, trace

__all__ = ["gate", "plan"]


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
    macs = node_macs(traced)
    found = features(traced)[0]
    sites, skipped = method.sites(traced)
    sites, unaccountable = accountable(traced, macs, sites, found)
    names = layer_names(traced, macs)
    with torch.device("meta"):  # to read off costs; draws no random numbers
        trunk = method.trunk(traced.example)
        heads = {spec.name: (spec, method.gate(spec).head) for site in sites for spec in site.gates}
    gates = {} if trunk is None else {"trunk": count_macs(trunk, traced.example[1:])}
    gates |= {name: _head_macs(spec, head) for name, (spec, head) in heads.items()}
    layers = layer_costs(traced, macs, names, layer_gates(traced, sites, found))
    return Plan(
        model=type(model).__name__,
        spec=identify(model),
        method=method.describe(),
        example=traced.example,
        sites=tuple(sites),
        skipped=(*skipped, *unaccountable),
        ledger=Ledger(layers, gates, uncounted(traced, macs)),
        layer_names=names,
        fingerprint=traced.fingerprint(),
    )


def _head_macs(spec: GateSpec, head: nn.Module) -> int:
    count: Any = head.macs
    return int(count(spec.pooled or spec.shape[1:]))
