"""Which modules are in which mode, and what learns how fast, when gates are added to a trained network."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from convgate.gated import GatedNetwork

__all__ = ["parameter_groups", "train_gates"]


def train_gates(network: GatedNetwork, *, rest: bool = True) -> GatedNetwork:
    """Put a gated network into the state in which gates are trained; returns the network.

    Everything is in training mode but the network's own batch norms, which keep their statistics: few images would
    spoil them. Gates learn, and with `rest` the network's weights too.
    """
    network.train()
    added = {id(module) for module in network.convgate.modules()}
    for module in network.modules():
        if isinstance(module, _BatchNorm) and id(module) not in added:
            module.eval()
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    learning = {id(p) for p in network.gate_parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(rest or id(parameter) in learning)
    return network


def parameter_groups(
    network: GatedNetwork, *, lr: float = 1e-4, gate_lr: float = 5e-3, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Groups for an optimiser: gates learn at `gate_lr` and never decay, vectors do not decay, the rest does."""
    gates = {id(p): p for p in network.gate_parameters()}
    others = [p for p in network.parameters() if id(p) not in gates]
    return [
        {"params": [p for p in others if p.dim() > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in others if p.dim() <= 1], "lr": lr, "weight_decay": 0.0},
        {"params": list(gates.values()), "lr": gate_lr, "weight_decay": 0.0},
    ]
