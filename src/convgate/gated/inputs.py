"""What a gated network is given: is it a batch, decisions or a size that it takes?"""

from typing import Any

import torch
from torch import Tensor

from convgate.errors import InputError
from convgate.gated.plan import Plan
from convgate.gating import Decisions
from convgate.reading.trace import check_images

__all__ = ["check_batch", "check_binary", "check_decisions", "check_size"]


def check_batch(images: Any, plan: Plan, like: Tensor) -> None:
    """Raise `InputError` unless `images` are a batch for the plan, on the device and of the dtype of `like`."""
    check_images(images, "the batch")
    channels = plan.example[1]
    if images.shape[1] != channels:
        raise InputError(
            f"the batch has images of shape {list(images.shape[1:])}, and this network was gated for images of "
            f"{channels} channels; convert the images"
        )
    dtype, device = like.dtype, like.device
    if images.device != device:
        raise InputError(
            f"the batch is on {images.device} and the network on {device}; move one: images.to('{device}')"
        )
    # Autocast converts what it meets, but for float64.
    converted = torch.is_autocast_enabled(images.device.type) and torch.float64 not in (images.dtype, dtype)
    if images.dtype != dtype and not converted:
        raise InputError(f"the batch is {images.dtype} and the network {dtype}; convert one, or use torch.autocast")


def check_decisions(decisions: Any, plan: Plan, n: int | None = None, device: torch.device | None = None) -> None:
    """Raise `InputError` unless these are of the plan's gates, with masks of its shapes.

    For `n` samples and on `device`, if these are given.
    """
    if not isinstance(decisions, Decisions):
        raise InputError(f"decisions are a {type(decisions).__name__}; give the Decisions that decide() returns")
    names = [spec.name for spec in plan.gates]
    if set(decisions) != set(names):
        missing, extra = sorted(set(names) - set(decisions)), sorted(set(decisions) - set(names))
        raise InputError(
            f"these decisions are of another network (missing gates: {missing or 'none'}; unknown: "
            f"{extra or 'none'}); give what decide() of this network returned"
        )
    n = decisions.batch_size if n is None else n
    for spec in plan.gates:
        mask = decisions[spec.name].mask
        shape = list(mask.shape)
        if shape != [n, *spec.shape]:
            raise InputError(
                f"the mask of gate '{spec.name}' has shape {shape}; this network and batch take "
                f"{[n, *spec.shape]}, for images of {'x'.join(map(str, plan.example[2:]))}. Masks that were "
                "made by hand for another size say so: Decisions(.., size=(height, width))"
            )
        if device is not None and mask.device != device:
            raise InputError(
                f"the mask of gate '{spec.name}' is on {mask.device} and the batch on {device}; move the "
                f"decisions: decisions.to('{device}')"
            )


def check_binary(decisions: Decisions) -> None:
    """Raise `InputError` for masks that hold anything but 0 and 1."""
    for name, decision in decisions.items():
        if not bool(((decision.mask == 0) | (decision.mask == 1)).all()):
            raise InputError(f"the mask of gate '{name}' holds values other than 0 and 1")


def check_size(size: Any) -> tuple[int, int]:
    """(height, width), if that is what `size` is; raise `InputError` if not."""
    if isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size):
        return int(size[0]), int(size[1])
    raise InputError(f"a size of {size!r}; give (height, width) in pixels, two whole numbers of at least 1")
