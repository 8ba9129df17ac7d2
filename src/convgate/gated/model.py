"""The model inside a gated network: kept in its own class, out of sight of registration, over the network's layers.

A gated network and its model share children, parameters and buffers. The network owns them, so that state dict,
optimisers and wrappers see the model's names; the model keeps everything else: its class, its plain attributes, its
properties.
"""

import types
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from convgate.errors import InputError, PlanError
from convgate.gated.gate_set import OURS, GateSet, place_in

__all__ = [
    "HiddenAttributeError",
    "Root",
    "adopt",
    "as_root",
    "attribute",
    "cleaned",
    "constants",
    "has_attribute",
    "restored",
]

_MODULE_STATE = frozenset(vars(nn.Module()))
# What every module keeps in its __dict__: dictionaries of children and hooks, the mode.
_CONSTANT = "_tensor_constant"
# torch.fx keeps tensors that forward() makes on the traced module, under this name and a number.


class HiddenAttributeError(InputError, AttributeError):
    """An attribute of the model that would bypass the gates."""


def adopt(network: nn.Module, model: nn.Module) -> None:
    """Make the children, parameters and buffers of `model` those of `network`, under the same names."""
    for members in (model._modules, model._parameters, model._buffers):
        if OURS in members:
            raise PlanError(f"the model has a member '{OURS}', as gated networks have; rename it")
    network._modules = dict(model._modules)
    network._parameters = dict(model._parameters)
    network._buffers = dict(model._buffers)
    network._non_persistent_buffers_set = set(model._non_persistent_buffers_set)


def restored(model: nn.Module, network: nn.Module) -> nn.Module:
    """`model`, after it has been given the current children, parameters, buffers and mode of `network`."""
    vars(model).update(
        _modules={name: child for name, child in network._modules.items() if not isinstance(child, GateSet)},
        _parameters=dict(network._parameters),
        _buffers=dict(network._buffers),
        _non_persistent_buffers_set=set(network._non_persistent_buffers_set),
        training=network.training,
    )
    return model


def constants(model: nn.Module, graph: fx.Graph) -> dict[str, Tensor]:
    """The tensors that the model's forward makes itself, as the graph names them."""
    targets = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    return {name: vars(model)[name] for name in targets if name.startswith(_CONSTANT) and name in vars(model)}


def has_attribute(model: nn.Module, name: str) -> bool:
    """Whether the model itself has a plain attribute of that name, on the instance or on its class."""
    own = name in vars(model) and name not in _MODULE_STATE
    return own or (hasattr(type(model), name) and not hasattr(nn.Module, name))


def attribute(model: nn.Module, network: nn.Module, name: str) -> Any:
    """What the model's plain attribute, property or class constant `name` is, for a user of `network`.

    Raises `HiddenAttributeError` for methods of the model, which would run its layers without their gates, and
    `AttributeError` for names that the model does not have.
    """
    kind = type(model)
    if not has_attribute(model, name):
        raise AttributeError(f"neither the gated network nor its model, a {kind.__name__}, has an attribute '{name}'")
    if name in vars(model):
        value = vars(model)[name]
        if not (isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module)):
            return value
    else:
        value = getattr(kind, name)
        if isinstance(value, property) and value.fget is not None:
            return value.fget(network)
        if not isinstance(value, types.FunctionType):
            return value
    raise HiddenAttributeError(
        f"'{name}' is a method of {kind.__name__}; called on a gated network it would run the layers without their "
        f"gates. Call the network itself, or take the ordinary model: net.dense().{name}"
    )


class Root:
    """What a captured graph takes for its model: resolves the names in the graph, and nothing else.

    The model's members come first, so that a child may have the name of a method of the gated network.
    """

    def __init__(self, network: nn.Module, model: nn.Module, constants: Mapping[str, Tensor]) -> None:
        self._convgate_network = network
        self._convgate_model = model
        self._convgate_constants = constants

    def __getattr__(self, name: str) -> Any:
        network = self._convgate_network
        if name == OURS:
            return network.convgate
        for members in (network._modules, network._parameters, network._buffers, self._convgate_constants):
            if name in members:
                return members[name]
        if name in vars(self._convgate_model):
            return vars(self._convgate_model)[name]
        return getattr(network, name)  # e.g. a parametrised weight, which is a property


def as_root(network: nn.Module, model: nn.Module, constants: Mapping[str, Tensor]) -> nn.Module:
    """What `Root` is, as an `nn.Module`: for interpreters of the graph, which ask for one. It shares its members."""
    root = nn.Module()
    plain = {name: value for name, value in vars(model).items() if isinstance(value, Tensor)}
    vars(root).update(plain | dict(constants), training=network.training)
    root._parameters, root._buffers = network._parameters, network._buffers
    root._modules = {**network._modules, OURS: network._modules[place_in(network)]}
    return root


def cleaned(model: nn.Module) -> nn.Module:
    """`model`, without what capturing it left behind."""
    for name in [name for name in vars(model) if name.startswith(_CONSTANT)]:
        delattr(model, name)
    return model
