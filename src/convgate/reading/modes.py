"""Training and evaluation mode, module by module: a frozen batch norm in a network in training stays frozen."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating", "get_modes", "set_modes"]


def get_modes(module: nn.Module) -> dict[str, bool]:
    """Sub-module name -> whether it is in training mode."""
    return {name: child.training for name, child in module.named_modules()}


def set_modes(module: nn.Module, modes: dict[str, bool]) -> None:
    """Give sub-modules the modes that `get_modes` found; others keep theirs."""
    for name, child in module.named_modules():
        child.training = modes.get(name, child.training)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; afterwards every sub-module is in the mode that it was in."""
    modes = get_modes(module)
    module.eval()
    try:
        yield
    finally:
        set_modes(module, modes)
