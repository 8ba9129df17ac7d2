"""What a sub-module is given when the model that it belongs to is called."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["given_to"]


class _ReachedError(Exception):
    """Ends the call where the sub-module begins."""


@torch.no_grad()
def given_to(module: nn.Module, model: nn.Module, *args: Any) -> Tensor:
    """The first argument of `module` when `model` is called with `args`; nothing behind it is computed.

    So the batch that a detector makes of its images, if `module` is its convolutional part, or what that begins with.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> given_to(model[1], model, torch.zeros(5, 3, 2, 2)).shape
    torch.Size([5, 12])

    """
    seen: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0])
        raise _ReachedError

    hook = module.register_forward_pre_hook(note)
    try:
        model(*args)
    except _ReachedError:
        pass
    finally:
        hook.remove()
    return seen[0]
