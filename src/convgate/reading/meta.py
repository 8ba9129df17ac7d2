"""Whether a network's tensors hold values."""

from itertools import chain

from torch import nn

from convgate.errors import InputError

__all__ = ["check_values"]


def check_values(network: nn.Module) -> None:
    """Raise `InputError` where a parameter or a buffer is on the meta device, which holds shapes alone.

    >>> from torch import nn
    >>> check_values(nn.Linear(2, 2))

    """
    without = [name for name, tensor in chain(network.named_parameters(), network.named_buffers()) if tensor.is_meta]
    if without:
        raise InputError(
            f"{len(without)} of the network's tensors hold no values ('{without[0]}' is on the meta device); give "
            "them some: network.to_empty(device='cpu'), then load_state_dict(..)"
        )
