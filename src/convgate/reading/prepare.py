"""Prepare a model for reading: refuse by name what a graph would lose, and copy the rest."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from convgate.errors import InputError, TraceError
from convgate.reading.copying import computes_weights, copies_of_empty
from convgate.reading.wrappers import check_wrapper, inside, unwrapped

__all__ = ["check_images", "copy_model", "prepare", "without_hooks"]


def prepare(model: nn.Module, *, block_hooks: bool = False) -> nn.Module:
    """A copy of `model`, without wrappers, whose forward can be captured; the model itself stays unchanged.

    Raises `TraceError` for hooks and replaced methods, which a graph does not hold.
    """
    if isinstance(model, nn.Module):
        model = unwrapped(model)
    check_model(model, block_hooks=block_hooks)
    return copy_model(model)


def check_model(model: nn.Module, *, block_hooks: bool = False) -> None:
    """Raise unless what `model` computes is what its classes' forward methods say.

    `block_hooks` allows hooks on blocks within the model, for a caller that calls them.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}; give a torch.nn.Module")
    _check_quantised(model)
    for name, child in model.named_modules():
        what = f"{type(child).__name__} '{name}'" if name else f"the model ({type(child).__name__})"
        if isinstance(child, torch.jit.ScriptModule):
            raise TraceError(
                f"{what} is a torch.jit module, whose Python code is gone; give the model it was made from"
            )
        if inside(child) is not None:
            check_wrapper(child, f"'{name}'")
        elif "forward" in vars(child) and not _belongs_to_torch(vars(child)["forward"]):
            raise TraceError(
                f"{what} has a `forward` attribute that replaces its class's, which reading would lose; write a "
                "subclass whose forward does the same"
            )
        if any(nn.parameter.is_lazy(p) for p in (*child._parameters.values(), *child._buffers.values())):
            raise TraceError(f"{what} is not initialised; run the model once on a batch of images, then give it")
        if not name or not block_hooks:
            _check_hooks(child, what)


_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.quantization.observer")
_SIMULATED = ("torch.ao.quantization.fake_quantize",)
# Rounds in float, as training for quantisation does; it is a layer like others, observers inside of it included.


def _check_quantised(model: nn.Module) -> None:
    simulated = {part for child in model.modules() if _is_of(child, _SIMULATED) for part in child.modules()}
    for name, child in model.named_modules():
        if _is_of(child, _QUANTISED) and child not in simulated:
            raise TraceError(
                f"{type(child).__name__} '{name}' is of a model that is quantised, or calibrated for it, by "
                "torch.ao.quantization; gate the model before that, and let convgate.quantize make an int8 engine of "
                "the gated network"
            )


def _is_of(module: nn.Module, packages: tuple[str, ...]) -> bool:
    return type(module).__module__.startswith(packages)


def _check_hooks(module: nn.Module, what: str) -> None:
    hooks = [*module._forward_hooks.values(), *module._backward_hooks.values(), *module._backward_pre_hooks.values()]
    before = [hook for hook in module._forward_pre_hooks.values() if not computes_weights(hook)]
    hooks, before = ([hook for hook in some if not _belongs_to_torch(hook)] for some in (hooks, before))
    called_whole = not any(True for _ in module.children())  # Its hooks run with it.
    if (hooks or before) and not called_whole:
        raise TraceError(
            f"{what} has {len(hooks) + len(before)} hook(s), which reading would lose; remove them before, and "
            "register them on layers of the gated network, or do in forward what they do"
        )


def copy_model(model: nn.Module, copied: Mapping[int, Any] | None = None) -> nn.Module:
    """A deep copy, also where a layer's weight was computed from others (`prune`, `weight_norm`, `spectral_norm`).

    `copied` maps the `id` of objects to what takes their place in the copy.
    """
    memo: dict[int, Any] = copies_of_empty(model) | dict(copied or {})
    for module in model.modules():
        for value in vars(module).values():
            # `copy.deepcopy` refuses tensors with a history; a copy of their values will be computed anew anyway.
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    whole = copy.deepcopy(model, memo)
    for module in whole.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if _belongs_to_torch(hook)]:
                del hooks[key]
    return whole


def _belongs_to_torch(function: Any) -> bool:
    """Whether a hook or method is one with which `torch.export` checks the inputs of what it captured."""
    return (
        isinstance(function, FunctionType) and function.__module__.startswith(("torch.export", "torch._export"))
    ) or (getattr(function, "__qualname__", "").startswith("wrap_dunder_call_ctx_manager"))


@contextmanager
def without_hooks(module: nn.Module) -> Iterator[None]:
    """Take the user's hooks off all sub-modules for the block: they must not be called with what stands for tensors."""
    kept = []
    for child in module.modules():
        for hooks in (child._forward_hooks, child._forward_pre_hooks, child._backward_hooks, child._backward_pre_hooks):
            if hooks:
                kept.append((hooks, dict(hooks)))
                for key, hook in kept[-1][1].items():
                    if not computes_weights(hook):
                        del hooks[key]
    try:
        yield
    finally:
        for hooks, before in kept:
            hooks.clear()
            hooks.update(before)


def check_images(images: Any, what: str) -> None:
    """Raise `InputError` unless `images` is a non-empty floating-point tensor [N, C, H, W]."""
    if not isinstance(images, Tensor):
        raise InputError(f"{what} is a {type(images).__name__}; give a float tensor of shape [N, C, H, W]")
    if images.dim() != 4 or 0 in images.shape:
        raise InputError(f"{what} has shape {list(images.shape)}; give a non-empty tensor of shape [N, C, H, W]")
    if not images.is_floating_point():
        raise InputError(f"{what} has dtype {images.dtype}; scale the images and give them as floats")
