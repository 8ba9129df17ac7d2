"""What PyTorch's own layers return for fake tensors, worked out once for all layers that are configured the same.

Running a convolution on a fake tensor takes about a millisecond, and networks repeat their blocks.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from convgate.reading.fakes import FakeMode, Form, fake_of, form_of

__all__ = ["LayerOutputs", "configuration"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_REMEMBERED = frozenset((nn.Linear, *_CONVOLUTIONS, *_NORMS, *_POOLS))
# Layers that return a new tensor, whose form follows from their configuration and from the argument's form. Sub-classes
# may do anything, and are run.


class LayerOutputs:
    """The forms of what layers returned under `mode`."""

    def __init__(self, mode: FakeMode) -> None:
        self._mode = mode
        self._known: dict[tuple[Any, ...], Form] = {}

    def run(self, layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], call: Callable[[], Any]) -> Any:
        """What `call`, which is `layer(*args, **kwargs)` without gradients, returns; not called where it is known."""
        key = configuration(layer, args, kwargs)
        if key is None:
            return call()
        if key in self._known:
            return fake_of(self._mode, self._known[key])
        output = call()
        if type(output) is FakeTensor:
            self._known[key] = form_of(output)
        return output


def configuration(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What decides the form of `layer(*args, **kwargs)`, and its MACs; None for layers that may do anything."""
    if type(layer) not in _REMEMBERED or kwargs or len(args) != 1 or layer._forward_pre_hooks or layer._forward_hooks:
        return None
    (argument,) = args
    if type(argument) is not FakeTensor:
        return None
    constants = [str(getattr(layer, name)) for name in layer.__constants__]  # type: ignore[union-attr]
    own = (*layer._parameters.items(), *layer._buffers.items())
    tensors = [(name, form_of(tensor)) for name, tensor in own if tensor is not None]
    device = argument.device.type
    # Asking about a device that has no autocast, such as meta, is an error.
    casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if casts else None
    return type(layer), layer.training, *constants, *tensors, dtype, form_of(argument)
