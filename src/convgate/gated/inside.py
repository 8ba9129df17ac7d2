"""Gate one sub-module of a model that is not itself images in, tensors out: a detector's backbone, say."""

import copy
import difflib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convgate.errors import InputError
from convgate.reading.modes import evaluating
from convgate.reading.wrappers import unwrapped

__all__ = ["gate_inside"]


def gate_inside(model: nn.Module, name: str, example: Any, gate: Callable[[nn.Module, Tensor], nn.Module]) -> nn.Module:
    """A copy of `model` in which `gate(part, what part is given for the example)` stands in the place of part `name`.

    Raises `InputError` when there is no such part, when the model fails on the example, or when the part is not called
    exactly once, with one batch of images.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}; give a torch.nn.Module")
    model = unwrapped(model)
    known = dict(model.named_modules())
    if name not in known or not name:
        close = difflib.get_close_matches(name, known, 3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "model.named_modules() lists them"
        raise InputError(f"gate(inside={name!r}): the model has no sub-module of that name; {hint}")
    images = _given(model, known[name], name, example)
    whole = copy.deepcopy(model)
    whole.set_submodule(name, gate(known[name], images))
    return whole


def _given(model: nn.Module, part: nn.Module, name: str, example: Any) -> Tensor:
    """The images that `part` is called with when the model runs on the example."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args, kwargs))

    handle = part.register_forward_pre_hook(record, with_kwargs=True)
    try:
        with torch.no_grad(), evaluating(model):
            model(example)
    except Exception as error:
        raise InputError(
            f"gate(inside={name!r}): the model fails on the example ({error}); give what it is called with"
        ) from error
    finally:
        handle.remove()
    if len(calls) != 1:
        raise InputError(f"gate(inside={name!r}): it is called {len(calls)} times for the example; it must be once")
    args, kwargs = calls[0]
    if kwargs or len(args) != 1 or not isinstance(args[0], Tensor) or args[0].dim() != 4:
        given = ", ".join([*map(_describe, args), *(f"{key}={_describe(value)}" for key, value in kwargs.items())])
        raise InputError(
            f"gate(inside={name!r}): it is called with ({given}); it must be one batch of images [N, C, H, W]"
        )
    return args[0]


def _describe(value: Any) -> str:
    return f"Tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
