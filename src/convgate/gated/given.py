"""The gated network that a caller gave: out of its wrappers, with values in its tensors."""

from typing import TypeVar

from torch import nn

from convgate.errors import InputError
from convgate.reading.meta import check_values
from convgate.reading.wrappers import unwrapped

__all__ = ["given_network"]

Kind = TypeVar("Kind", bound=nn.Module)


def given_network(network: object, kinds: tuple[type[Kind], ...], function: str) -> Kind:
    """What `function` was given, without `DataParallel` and the like.

    Raises `InputError` for what is of none of the kinds, and for a network on the meta device.
    """
    if isinstance(network, nn.Module):
        network = unwrapped(network)
    if not isinstance(network, kinds):
        raise InputError(f"{function}() takes a GatedNetwork, not a {type(network).__name__}; make one with gate()")
    check_values(network)
    return network
