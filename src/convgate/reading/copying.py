"""Copies of modules: what `copy.deepcopy` need not look at, and what it need not copy."""

import copy
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

__all__ = ["computes_weights", "copies_of_empty", "sharing_tensors"]


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


def sharing_tensors(module: nn.Module) -> nn.Module:
    """A copy of `module` that shares its parameters, buffers and other tensors; modes and hooks are its own.

    It can be switched and changed while other threads call `module`. Of the hooks it has those alone that compute
    weights: the user's must not be called with what stands for tensors.
    """
    memo = copies_of_empty(module)
    for child in module.modules():
        for tensor in (*vars(child).values(), *child._parameters.values(), *child._buffers.values()):
            if isinstance(tensor, Tensor):
                memo[id(tensor)] = tensor
        for hooks in (child._forward_hooks, child._forward_pre_hooks, child._backward_hooks, child._backward_pre_hooks):
            if hooks:
                memo[id(hooks)] = OrderedDict((key, hook) for key, hook in hooks.items() if computes_weights(hook))
    return copy.deepcopy(module, memo)


def computes_weights(hook: Any) -> bool:
    """Whether a hook is one of `torch.nn.utils`, which computes a layer's weight before each call."""
    return type(hook).__module__.startswith("torch.nn.utils.")
