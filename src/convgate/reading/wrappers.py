"""Take off the wrappers that run a model elsewhere or faster and compute the same: parallel and compiled models."""

import logging

from torch import nn

from convgate.errors import TraceError

__all__ = ["check_wrapper", "inside", "unwrapped"]

_log = logging.getLogger(__name__)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside `DataParallel`, `DistributedDataParallel` and `torch.compile`, in any order.

    What is taken off is logged. The names of the model's parameters then have no prefix ("module.", "_orig_mod.").
    Raises `TraceError` for a wrapper that changes what the model computes: one with hooks, or `DistributedDataParallel`
    with mixed precision.

    >>> from torch import nn
    >>> unwrapped(nn.DataParallel(nn.Identity()))
    Identity()

    """
    while (inner := inside(model)) is not None:
        check_wrapper(model, "the model")
        name = _name(model)
        _log.info("read without the %s around it: its parameters have the names of the %s inside", name, _name(inner))
        model = inner
    return model


def check_wrapper(wrapper: nn.Module, what: str) -> None:
    """Raise `TraceError` for a wrapper around `what` that changes what it computes."""
    name = _name(wrapper)
    if _hooks(wrapper):
        raise TraceError(
            f"the {name} around {what} has {_hooks(wrapper)} hook(s), which would be lost with it; remove them, "
            f"or take the {name} off"
        )
    if getattr(wrapper, "mixed_precision", None) is not None:
        raise TraceError(f"the {name} around {what} computes in mixed precision; give its .module")


def inside(model: nn.Module) -> nn.Module | None:
    """The module inside a wrapper that runs it elsewhere or faster; None for a module that is not such a wrapper."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return model.module
    return dict(model.named_children()).get("_orig_mod")


def _hooks(wrapper: nn.Module) -> int:
    own = vars(wrapper)
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(own.get(kind, ())) for kind in kinds)


def _name(module: nn.Module) -> str:
    return type(module).__name__
