"""Which modules are in which mode, and what learns how fast, when gates are added to a trained network."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from convgate.gated import GatedNetwork

__all__ = ["hold_gates", "parameter_groups", "train_gates"]

_COHERENT = 0.5
# Inputs of a gate that are of mean size 2, as those of MobileNetV2's blocks, move its logit as its bias does.


def train_gates(network: GatedNetwork, *, rest: bool = True) -> GatedNetwork:
    """Put a gated network into the state in which gates are trained; returns the network.

    Everything is in training mode but the network's own batch norms, which keep their statistics (few images would
    spoil them), and dropout, that of gates too. Gates learn, and with `rest` those of the network's other weights that
    are not frozen (`requires_grad`); without it all of them are frozen.
    """
    network.train()
    added = {id(module) for module in network.convgate.modules()}
    for module in network.modules():
        if isinstance(module, _BatchNorm) and id(module) not in added:
            module.eval()
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    if not rest:
        network.requires_grad_(False)
    for parameter in network.gate_parameters():
        parameter.requires_grad_(True)
    return network


def hold_gates(network: GatedNetwork) -> None:
    """Gates decide as in evaluation and learn no more, whatever the rest of the network does."""
    for _, gate in network.gate_modules():
        gate.eval()
    if network.convgate.trunk is not None:
        network.convgate.trunk.eval()
    for parameter in network.gate_parameters():
        parameter.requires_grad_(False)
        parameter.grad = None


def parameter_groups(
    network: GatedNetwork, *, lr: float = 1e-4, gate_lr: float = 5e-3, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Groups for an optimiser: gates learn at `gate_lr` and never decay, vectors do not decay, the rest does.

    Adam moves every weight by about its rate in a step, all that feed a logit at once. So a gate's weights learn at
    `gate_lr` times 0.5 / their fan-in: a step then moves a logit by about as much through them as through its bias,
    whatever the width; at one rate for all a spatial gate over 320 channels would move thousands of times as far.

    Each group has `"scale"`, its rate as a multiple of `lr` or `gate_lr`, and `"gates"`, which of the two.
    """
    gates = {id(p): p for p in network.gate_parameters()}
    others = [p for p in network.parameters() if id(p) not in gates]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.dim() > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in others if p.dim() <= 1], "lr": lr, "weight_decay": 0.0},
    ]
    groups = [{**group, "scale": 1.0, "gates": False} for group in groups]
    scales: dict[float, list[nn.Parameter]] = {}
    for p in gates.values():
        scales.setdefault(min(_COHERENT / p[0].numel(), 1.0) if p.dim() > 1 else 1.0, []).append(p)
    for scale, parameters in sorted(scales.items()):
        groups.append({"params": parameters, "lr": gate_lr * scale, "weight_decay": 0.0, "scale": scale, "gates": True})
    return groups
