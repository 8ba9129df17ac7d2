"""Normalisation layers and layers that return their input: what a mask may be moved across.

A norm *pools positions* when its statistics are taken over the positions of a map (GroupNorm, InstanceNorm, LayerNorm
and RMSNorm over maps, batch norm without running statistics). A zeroed tile then changes every other position, so that
what such a norm reads must be computed in full. Batch norm in evaluation, frozen batch norm and LayerNorm over channels
do not.
"""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from convgate.reading.randomness import preserving_random_state
from convgate.reading.trace import Trace

__all__ = ["is_fixed_norm", "pools_positions", "returns_its_input"]


def is_fixed_norm(layer: nn.Module) -> bool:
    """Whether a layer scales and shifts each channel by constants in evaluation, as a batch norm does."""
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return layer.track_running_stats and layer.running_mean is not None
    return isinstance(layer, _types(("torchvision.ops", "FrozenBatchNorm2d"), ("timm.layers", "FrozenBatchNormAct2d")))


def pools_positions(trace: Trace, node: fx.Node) -> bool:
    """Whether a node is a norm whose statistics are taken over the positions of a map [N, C, H, W]."""
    layer = trace.layer(node)
    if layer is None:
        if node.target in (F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm):
            return len(node.args[1] if len(node.args) > 1 else node.kwargs["normalized_shape"]) > 1  # type: ignore[arg-type]
        if node.target is F.batch_norm:
            mean = node.args[1] if len(node.args) > 1 else node.kwargs.get("running_mean")
            return mean is None or (node.args[5] if len(node.args) > 5 else node.kwargs.get("training", False)) is True
        return node.target in (F.group_norm, torch.group_norm, F.instance_norm, torch.instance_norm)
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm | nn.modules.batchnorm._BatchNorm):
        return not layer.track_running_stats or layer.running_mean is None
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return len(layer.normalized_shape) > 1
    return isinstance(layer, (nn.GroupNorm, *_types(("timm.layers", "GlobalResponseNorm"))))


def returns_its_input(trace: Trace, node: fx.Node) -> bool:
    """Whether a layer does nothing in evaluation, as dropout of any kind (DropPath, StochasticDepth); it is tried out.

    A layer that is written by hand is known by what it does, not by its name.
    """
    layer = trace.layer(node)
    if layer is None or isinstance(layer, nn.Identity | nn.modules.dropout._DropoutNd):
        return layer is not None
    own = type(layer).__module__.startswith("torch.nn.")
    if own or any(True for _ in layer.parameters()) or any(True for _ in layer.buffers()) or layer._forward_hooks:
        return False
    mode = layer.training
    layer.eval()
    try:
        with preserving_random_state(), torch.no_grad():
            maps = torch.randn(2, *(trace.shapes[node.name][1:2] or (1,)), 2, 2)
            output = layer(maps.clone())
    except Exception:  # noqa: BLE001 -- it does something that is not known
        return False
    finally:
        layer.train(mode)
    return isinstance(output, torch.Tensor) and torch.equal(output, maps)


def _types(*names: tuple[str, str]) -> tuple[type, ...]:
    """Types of packages that are loaded; a model cannot hold a layer of one that is not."""
    found: list[Any] = [getattr(sys.modules.get(module), name, None) for module, name in names]
    return tuple(kind for kind in found if isinstance(kind, type))
