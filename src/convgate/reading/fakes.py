"""Fake tensors, quickly: tensors with a shape, a dtype and a device, and no data.

PyTorch works out what an operation returns for fake tensors from what it is made of, which takes a batch norm several
milliseconds. Networks have hundreds, and each returns a tensor of the form of its input.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

__all__ = ["FakeMode", "Form", "fake_like", "fake_of", "form_of"]

Form = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]
"""Shape, stride, dtype and device of a tensor."""

_aten = torch.ops.aten
_TRAINING = {
    # Operation -> where among its arguments it is said whether it takes the statistics of its input.
    _aten.native_batch_norm.default: 5,
    _aten._native_batch_norm_legit.default: 5,
    _aten._native_batch_norm_legit_no_training.default: None,
}


class FakeMode(FakeTensorMode):
    """The mode of fake tensors under which a model is read; real tensors may be among the arguments."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    @cached_property
    def avoid_device_init(self) -> bool:
        """Whether there is no GPU, found out once: PyTorch asks for every operation, and may load a library for it."""
        return bool(super().avoid_device_init)

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What an operation returns."""
        if func in _TRAINING and not kwargs and _is_ordinary(args):
            place = _TRAINING[func]
            images, training = args[0], place is not None and args[place]
            statistics = (images.shape[1] if training else 0,), (1,), images.dtype, images.device
            return fake_of(self, form_of(images)), fake_of(self, statistics), fake_of(self, statistics)
        return super().dispatch(func, types, args, kwargs)


def _is_ordinary(args: tuple[Any, ...]) -> bool:
    """Whether these are the arguments of a batch norm that has nothing to refuse and nothing to convert."""
    images = args[0]
    if type(images) is not FakeTensor or images.dim() < 2 or images.requires_grad:
        return False
    if not (images.is_contiguous() or images.is_contiguous(memory_format=torch.channels_last)):
        return False
    given = [tensor for tensor in args[1:5] if tensor is not None]
    return all(t.shape == images.shape[1:2] and t.dtype == images.dtype and t.device == images.device for t in given)


def fake_like(tensor: Tensor, mode: FakeTensorMode) -> FakeTensor:
    """A fake tensor of the form of `tensor`; a parameter, if that is one."""
    fake = fake_of(mode, form_of(tensor), requires_grad=tensor.requires_grad)
    if isinstance(tensor, nn.Parameter):
        fake._is_param = True  # as `nn.Parameter` does for tensors of other classes
    return fake


def form_of(tensor: Tensor) -> Form:
    """Shape, stride, dtype and device of a tensor."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def fake_of(mode: FakeTensorMode, form: Form, *, requires_grad: bool = False) -> FakeTensor:
    """A fake tensor of that form."""
    # By the class and not by a function of torch under the mode, which takes seven times as long.
    shape, stride, dtype, device = form
    empty = torch.empty_strided(shape, stride, dtype=dtype, device="meta", requires_grad=requires_grad)
    return FakeTensor(mode, empty, device)
