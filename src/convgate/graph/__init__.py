"""Read a CNN, plan which of its parts are gated, and insert the gates."""

from convgate.graph.build import gate, plan
from convgate.graph.method import Method
from convgate.graph.network import GatedNetwork
from convgate.graph.plan import GateSpec, MaskSpec, PartialSpec, Plan, Site
from convgate.graph.skipping import LayerGates, layer_gates
from convgate.graph.structure import Branch, Feature, Rejected, branches, features
from convgate.graph.trace import Trace, trace

__all__ = [
    "Branch",
    "Feature",
    "GateSpec",
    "GatedNetwork",
    "LayerGates",
    "MaskSpec",
    "Method",
    "PartialSpec",
    "Plan",
    "Rejected",
    "Site",
    "Trace",
    "branches",
    "features",
    "gate",
    "layer_gates",
    "plan",
    "trace",
]
