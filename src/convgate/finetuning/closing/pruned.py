"""The ordinary network that is left when channels which are closed for every image are taken out.

Gates that always decide the same need not be asked. Without its closed channels a network is a smaller dense one, for
any engine and any format, with the same answers: its convolutions have fewer channels, and nothing else changes.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from convgate.errors import PlanError
from convgate.finetuning.closing.readers import Closable, closable, read_dense
from convgate.gated import GatedNetwork
from convgate.reading.structure import Feature
from convgate.reading.trace import Trace

__all__ = ["pruned"]


@torch.no_grad()
def pruned(network: GatedNetwork, is_open: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the dense network without the closed channels, in evaluation mode.

    It is of the model's class, and computes what `network` does with these units open, and all of its other gates'.

    Args:
        network: a gated network.
        is_open: bool [units] of gates of channels, by name; of other gates all units count as open.

    Raises:
        PlanError: a closed channel is read, or made, by a layer that cannot do without it; the message names it.

    """
    model, read = read_dense(network)
    for gate in closable(network, read):
        units = is_open.get(gate.gate)
        if units is None or bool(units.all()):
            continue
        if gate.feature is None or not gate.readers:
            raise PlanError(
                f"the channels of gate '{gate.gate}' are read together with others; they cannot be taken out"
            )
        _cut(model, read, gate.feature, gate, gate.spread(units).nonzero()[:, 0])
    return model


def _cut(model: nn.Module, read: Trace, feature: Feature, gate: Closable, kept: Tensor) -> None:
    """Leave only the channels `kept` of one feature."""
    for node in _chain(read, feature):
        layer = _layer(model, read, node)
        if isinstance(layer, nn.Conv2d):
            if node.name == feature.convs[0] and layer.groups != 1:
                raise PlanError(
                    f"'{node.target}' makes the channels of gate '{gate.gate}' in groups, and they must stay"
                )
            _keep(layer, kept, 0, ("weight", "bias"))
            layer.out_channels = len(kept)
            if node.name != feature.convs[0]:  # a depthwise convolution
                layer.in_channels = layer.groups = len(kept)
        elif isinstance(layer, _BatchNorm):
            _keep(layer, kept, 0, ("weight", "bias", "running_mean", "running_var"))
            layer.num_features = len(kept)
        elif _has_tensors(layer):
            raise PlanError(f"'{node.target}', a {type(layer).__name__}, cannot do without channels of '{gate.gate}'")
    for reader in gate.readers:
        node = read.node(reader.node).all_input_nodes[0]
        while node.name != feature.end:
            if len(node.all_input_nodes) != 1 or _has_tensors(_layer(model, read, node)):
                raise PlanError(f"'{reader.layer}' reads the channels of '{gate.gate}' through '{node.name}'")
            node = node.all_input_nodes[0]
        layer = model.get_submodule(reader.layer)
        assert isinstance(layer, nn.Conv2d)
        _keep(layer, kept, 1, ("weight",))
        layer.in_channels = len(kept)


def _chain(read: Trace, feature: Feature) -> Iterator[fx.Node]:
    """From the feature's first convolution to its end."""
    node = read.node(feature.convs[0])
    yield node
    while node.name != feature.end:
        (node,) = node.users
        yield node


def _layer(model: nn.Module, read: Trace, node: fx.Node) -> nn.Module | None:
    return None if read.layer(node) is None else model.get_submodule(str(node.target))


def _has_tensors(layer: nn.Module | None) -> bool:
    return layer is not None and bool([*layer.parameters(), *layer.buffers()])


def _keep(layer: nn.Module, kept: Tensor, axis: int, names: tuple[str, ...]) -> None:
    """Leave only these entries of some of a layer's tensors, if it has them."""
    for name in names:
        tensor = getattr(layer, name)
        if isinstance(tensor, nn.Parameter):
            cut = tensor.detach().index_select(axis, kept.to(tensor.device)).clone()
            setattr(layer, name, nn.Parameter(cut, requires_grad=tensor.requires_grad))
        elif isinstance(tensor, Tensor):
            setattr(layer, name, tensor.index_select(axis, kept.to(tensor.device)).clone())
