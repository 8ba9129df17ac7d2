"""The optimiser and the learning-rate schedule of a training stage."""

import math
from typing import Any

import torch
from torch import nn

from convgate.gated import GatedModel, GatedNetwork
from convgate.recipes.stages import Stage

__all__ = ["learning_rate_factor", "make_optimiser"]


def make_optimiser(network: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """The stage's optimiser; gates have a decay of their own (0 in most sources), vectors one if the stage says so."""
    gates = list(network.gate_parameters()) if isinstance(network, GatedNetwork | GatedModel) else []
    held = {id(p) for p in gates}
    others = [p for p in network.parameters() if id(p) not in held]
    decayed = [p for p in others if stage.decay_vectors or p.dim() > 1]
    kept = {id(p) for p in decayed}
    groups: list[dict[str, Any]] = [{"params": decayed}]
    if spared := [p for p in others if id(p) not in kept]:
        groups.append({"params": spared, "weight_decay": 0.0})
    if gates:
        groups.append({"params": gates, "weight_decay": stage.gate_decay, "lr": stage.lr * stage.gate_lr})
    if stage.optimiser == "rmsprop":
        return torch.optim.RMSprop(
            groups,
            stage.lr,
            alpha=stage.square_decay,
            eps=stage.epsilon,
            momentum=stage.momentum,
            weight_decay=stage.weight_decay,
        )
    return torch.optim.SGD(
        groups,
        stage.lr,
        momentum=stage.momentum,
        nesterov=stage.nesterov and stage.momentum > 0,
        weight_decay=stage.weight_decay,
        fused=all(p.device.type in ("cpu", "cuda") for p in network.parameters()),
    )


def learning_rate_factor(stage: Stage, progress: float) -> float:
    """What the learning rate is multiplied by when the share `progress` in [0, 1] of the stage is done."""
    if progress < stage.warmup:
        return progress / stage.warmup
    if stage.schedule == "steps":
        return stage.gamma ** sum(progress >= milestone for milestone in stage.milestones)
    behind = (progress - stage.warmup) / (1 - stage.warmup)
    if stage.schedule == "exponential":
        return stage.gamma**behind
    if stage.schedule == "polynomial":
        return max(0.0, 1 - behind) ** stage.power
    return (1 + math.cos(math.pi * behind)) / 2
