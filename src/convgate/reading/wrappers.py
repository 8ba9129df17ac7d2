"""Take off the wrappers that run a model elsewhere or faster and compute the same: parallel and compiled models."""

import logging

from torch import nn

from convgate.errors import TraceError

__all__ = ["unwrapped"]

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
    while (inner := _inside(model)) is not None:
        name = _name(model)
        if _hooks(model):
            raise TraceError(
                f"the {name} around the model has {_hooks(model)} hook(s), which would be lost with it; remove them, "
                "or give the model inside"
            )
        if getattr(model, "mixed_precision", None) is not None:
            raise TraceError(f"the {name} around the model computes in mixed precision; give its .module")
        _log.info("read without the %s around it: its parameters have the names of the %s inside", name, _name(inner))
        model = inner
    return model


def _inside(model: nn.Module) -> nn.Module | None:
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return model.module
    return dict(model.named_children()).get("_orig_mod")


def _hooks(wrapper: nn.Module) -> int:
    own = vars(wrapper)
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(own.get(kind, ())) for kind in kinds)


def _name(module: nn.Module) -> str:
    return type(module).__name__
