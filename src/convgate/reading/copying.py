"""What `copy.deepcopy` of a module need not look at."""

from collections import OrderedDict
from typing import Any

from torch import nn

__all__ = ["copies_of_empty"]


def copies_of_empty(module: nn.Module) -> dict[int, Any]:
    """A `memo` for `copy.deepcopy` with copies of the empty containers among the modules' attributes.

    Every module holds about ten of them, for hooks that nobody registered, and `deepcopy` spends most of its time on
    taking each apart.
    """
    return {
        id(value): type(value)()
        for child in module.modules()
        for value in vars(child).values()
        if type(value) in (OrderedDict, dict, set) and not value
    }
