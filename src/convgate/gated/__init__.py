"""A gated network: the plan of its gates, the method behind them, and the network that decides."""

from convgate.gated.around import GatedModel
from convgate.gated.build import gate, plan
from convgate.gated.find_part import find_part
from convgate.gated.fixed import FixedNetwork, random_masks
from convgate.gated.gate_set import GATES, OURS, PATHS, TRUNK, GateSet, place_in
from convgate.gated.method import Ablation, Method
from convgate.gated.network import GatedNetwork
from convgate.gated.plan import FillSpec, GateSpec, MaskSpec, PartialSpec, Plan, Site, Ungated
from convgate.gated.skipping import LayerGates, layer_gates
from convgate.gated.weights import GateWeights, gate_weights

__all__ = [
    "GATES",
    "OURS",
    "PATHS",
    "TRUNK",
    "Ablation",
    "FillSpec",
    "FixedNetwork",
    "GateSet",
    "GateSpec",
    "GateWeights",
    "GatedModel",
    "GatedNetwork",
    "LayerGates",
    "MaskSpec",
    "Method",
    "PartialSpec",
    "Plan",
    "Site",
    "Ungated",
    "find_part",
    "gate",
    "gate_weights",
    "layer_gates",
    "place_in",
    "plan",
    "random_masks",
]
