"""Bring weights of the DGNet authors' own code into a gated network.

Their blocks hold the gates beside the convolutions: `mask_s.atten_s` (spatial) and `mask_c`, or `mask_c1` and `mask_c2`
in a bottleneck, with `atten_c.0` (reduce), `.1` (batch norm) and `.3` (expand). Other layers are named as in
torchvision, so `cifar_resnet20/32/56/110` with option B shortcuts and torchvision's ResNets take them.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from convgate.errors import CheckpointError
from convgate.gated import GatedNetwork, GateSpec, place_in
from convgate.gating import ChannelGroups, Tiles
from convgate.weights import misfit

__all__ = ["load_dgnet_weights"]

_GATE = re.compile(r"(?P<block>.+)\.mask_(?P<gate>s|c\d?)\.atten_[sc]\.(?:(?P<layer>[013])\.)?(?P<tensor>\w+)")
_LAYERS = {None: "conv", "0": "reduce", "1": "norm", "3": "expand"}


def load_dgnet_weights(network: GatedNetwork, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of the authors' code into `network`, a model gated with `DualGating()`, in place.

    What `convgate.calibrate` set is undone.

    Args:
        network: a model gated with `DualGating`.
        state: their state dict; keys may carry the "module." prefix of DataParallel.

    Raises:
        CheckpointError: keys or shapes do not fit; the network stays as it was.

    """
    gates, place = network.plan.gates, f"{place_in(network)}.gates"
    expected = network.state_dict()
    translated = {}
    for key, tensor in state.items():
        ours = _translate(key.removeprefix("module."), gates, place)
        # Their fully connected layers are 1x1 convolutions.
        linear = ours.startswith(f"{place}.") and tensor.dim() == 4 and ours in expected and expected[ours].dim() == 2
        translated[ours] = tensor.flatten(1) if linear else tensor
    problem = misfit(expected, translated, optional=lambda key: key.endswith(".offset"))
    if problem:
        raise CheckpointError(
            f"these weights do not fit this gated {network.plan.model} ({problem}); gate the same architecture with "
            "DualGating()"
        )
    network.load_state_dict(translated, strict=False)
    for _, gate in network.gate_modules():
        gate.offset.zero_()


def _translate(key: str, gates: Sequence[GateSpec], place: str) -> str:
    match = _GATE.fullmatch(key)
    if match is None:
        return key
    block, kind = match["block"], match["gate"]
    inside = [spec for spec in gates if spec.name.startswith(f"{block}.")]
    if kind == "s":
        wanted = [spec for spec in inside if isinstance(spec.kind, Tiles)]
    else:
        wanted = [spec for spec in inside if isinstance(spec.kind, ChannelGroups)][int(kind[1:] or 1) - 1 :]
    return f"{place}.{wanted[0].name}.head.{_LAYERS[match['layer']]}.{match['tensor']}" if wanted else key
