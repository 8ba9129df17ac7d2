"""What a sub-module is given when the model that it belongs to is called."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from convgate.errors import InputError

__all__ = ["given_to"]


class _ReachedError(Exception):
    """Ends the call where the sub-module begins."""


@torch.no_grad()
def given_to(module: nn.Module, model: nn.Module, *args: Any) -> Tensor:
    """The first argument of `module` when `model` is called with `args`; nothing behind it is computed.

    So the batch that a detector makes of its images, if `module` is its convolutional part, or what that begins with.
    Calls in other threads go on as they are.

    Raises `InputError` if the model does not call `module`, or not with a first argument.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> given_to(model[1], model, torch.zeros(5, 3, 2, 2)).shape
    torch.Size([5, 12])

    """
    seen: list[Tensor] = []
    caller = threading.get_ident()

    def note(_: nn.Module, given: tuple[Any, ...]) -> None:
        if given and threading.get_ident() == caller:
            seen.append(given[0])
            raise _ReachedError

    hook = module.register_forward_pre_hook(note)
    try:
        model(*args)
    except _ReachedError:
        pass
    finally:
        hook.remove()
    if not seen:
        what, part = type(model).__name__, type(module).__name__
        raise InputError(f"with what it was given, the model ({what}) does not call {part} with a first argument")
    return seen[0]
