"""A gated network: the plan of its gates, the method behind them, and the network that decides."""

from convgate.gated.build import gate, plan
from convgate.gated.gate_set import GATES, OURS, PATHS, TRUNK, GateSet, place_in
from convgate.gated.method import Method
from convgate.gated.network import GatedNetwork
from convgate.gated.plan import GateSpec, MaskSpec, PartialSpec, Plan, Site, Ungated
from convgate.gated.skipping import LayerGates, layer_gates
from convgate.gated.weights import GateWeights, gate_weights

__all__ = [
    "GATES",
    "OURS",
    "PATHS",
    "TRUNK",
    "GateSet",
    "GateSpec",
    "GateWeights",
    "GatedNetwork",
    "LayerGates",
    "MaskSpec",
    "Method",
    "PartialSpec",
    "Plan",
    "Site",
    "Ungated",
    "gate",
    "gate_weights",
    "layer_gates",
    "place_in",
    "plan",
]
