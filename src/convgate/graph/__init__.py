"""Read a CNN, plan which of its parts are gated, and insert the gates."""

from convgate.graph.build import gate, plan
from convgate.graph.joins import Join, concatenations, dense_layers, residual_units
from convgate.graph.method import Method
from convgate.graph.network import GatedNetwork
from convgate.graph.plan import TRUNK, GateSpec, MaskSpec, PartialSpec, Plan, Site
from convgate.graph.skipping import LayerGates, layer_gates
from convgate.graph.structure import Branch, Feature, Rejected, branches, features
from convgate.graph.trace import Trace, trace

__all__ = [
    "TRUNK",
    "Branch",
    "Feature",
    "GateSpec",
    "GatedNetwork",
    "Join",
    "LayerGates",
    "MaskSpec",
    "Method",
    "PartialSpec",
    "Plan",
    "Rejected",
    "Site",
    "Trace",
    "branches",
    "concatenations",
    "dense_layers",
    "features",
    "gate",
    "layer_gates",
    "plan",
    "residual_units",
    "trace",
]
