"""Bring weights of the CGNet authors' own code into a gated network.

Their `CGConv2d` holds, beside the weights of the convolution, the batch norm of its partial sums (`bn`), the thresholds
(`threshold`) and the base path's choice of weights (`mask`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from convgate.errors import CheckpointError
from convgate.gated import GatedNetwork, PartialSpec, place_in
from convgate.gating.partial import base_weights, shuffled_order
from convgate.weights import misfit

__all__ = ["load_cgnet_weights"]

_OURS = {
    "threshold": "head.threshold",
    "bn.running_mean": "head.norm.running_mean",
    "bn.running_var": "head.norm.running_var",
    "bn.num_batches_tracked": "head.norm.num_batches_tracked",
}


def load_cgnet_weights(
    network: GatedNetwork, state: Mapping[str, Tensor], rename: Mapping[str, str] | None = None
) -> None:
    """Load a state dict of the authors' code into `network`, in place.

    Their network is `ChannelGating` of the same partitions, groups and shuffle, `form="code"` and `group=1`, on a model
    whose layers have the names of theirs; the slope alpha and `sparse` are not in a state dict and must be chosen
    alike, too. What `convgate.calibrate` set is undone.

    Args:
        network: a model gated with `ChannelGating`.
        state: their state dict; keys may carry the "module." prefix of DataParallel.
        rename: prefixes of their keys to replace; {"linear.": "fc."} for their CIFAR ResNets and ours.

    Raises:
        CheckpointError: keys, shapes, or the choice of the base path do not fit; the network stays as it was.

    """
    convs = {network.plan.layer_names[p.conv]: p for p in network.plan.partials}
    expected = network.state_dict()
    translated: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for theirs, tensor in state.items():
        key = theirs.removeprefix("module.")
        for old, new in (rename or {}).items():
            key = new + key.removeprefix(old) if key.startswith(old) else key
        conv = next((name for name in convs if key.startswith(f"{name}.")), None)
        part = key.removeprefix(f"{conv}.")
        if conv and part == "mask":
            masks[conv] = tensor
        elif conv and part in _OURS:
            translated[f"{place_in(network)}.gates.{convs[conv].gate}.{_OURS[part]}"] = (
                tensor.flatten() if tensor.dim() == 4 else tensor
            )
        else:
            translated[key] = tensor
    problem = misfit(
        expected, translated, optional=lambda key: key.endswith((".offset", ".num_batches_tracked"))
    ) or _other_parts(network, convs, masks)
    if problem:
        raise CheckpointError(
            f"these weights do not fit this gated {network.plan.model} ({problem}); gate the same architecture with "
            'ChannelGating(form="code") and the partitions, groups, shuffle and convs of their network, and rename '
            "layers where names differ"
        )
    for conv, partial in convs.items():
        if partial.shuffled:
            translated[f"{conv}.weight"] = _in_order(translated[f"{conv}.weight"], partial.parts)
    network.load_state_dict(translated, strict=False)
    for _, gate in network.gate_modules():
        gate.offset.zero_()


def _other_parts(network: GatedNetwork, convs: Mapping[str, PartialSpec], masks: Mapping[str, Tensor]) -> str | None:
    """In words, a convolution whose base path is another than that of the masks; None if all agree."""
    for conv, mask in masks.items():
        outputs, inputs = network.get_parameter(f"{conv}.weight").shape[:2]
        ours = base_weights(outputs, inputs, convs[conv].parts, convs[conv].grouped)
        if mask.shape[:2] != ours.shape[:2] or not bool(((mask.cpu() > 0) == ours).all()):
            return f"the mask of {conv} chooses other weights for the base path"
    return None


def _in_order(weight: Tensor, parts: int) -> Tensor:
    """Weights [O, C, kH, kW] of shuffled channels, for channels as they come."""
    ordered = torch.empty_like(weight)
    ordered[:, shuffled_order(weight.shape[1], parts, weight.device)] = weight
    return ordered
