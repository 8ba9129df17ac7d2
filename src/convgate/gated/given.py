"""The gated network that a caller gave: out of its wrappers, with values in its tensors."""

from torch import nn

from convgate.errors import InputError
from convgate.gated.around import GatedModel
from convgate.gated.network import GatedNetwork
from convgate.reading.meta import check_values
from convgate.reading.wrappers import unwrapped

__all__ = ["given_alone", "given_network"]


def given_network(network: object, function: str) -> GatedNetwork | GatedModel:
    """What `function` was given, without `DataParallel` and the like.

    Raises `InputError` for what is no gated network, and for one on the meta device.
    """
    if isinstance(network, nn.Module):
        network = unwrapped(network)
    if not isinstance(network, GatedNetwork | GatedModel):
        raise _refusal(network, function)
    check_values(network)
    return network


def given_alone(network: object, function: str) -> GatedNetwork:
    """The same for a function that takes no model around a gated network."""
    found = given_network(network, function)
    if not isinstance(found, GatedNetwork):
        raise _refusal(found, function)
    return found


def _refusal(network: object, function: str) -> InputError:
    return InputError(f"{function}() takes a GatedNetwork, not a {type(network).__name__}; make one with gate()")
