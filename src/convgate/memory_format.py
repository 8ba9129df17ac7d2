"""Whether a network can be trained with its channels last in memory, where convolutions take the least time."""

import torch
from torch import nn

__all__ = ["channels_last_is_safe"]

_FEWEST_CHANNELS = 8


def channels_last_is_safe(network: nn.Module, device: torch.device) -> bool:
    """Whether PyTorch keeps to its memory when it trains `network` in `torch.channels_last`.

    On processors with AVX2 and without AVX-512 it does not: the gradient of a 1x1 convolution's weights, with a stride
    and fewer than 8 input channels, is written beyond its end (oneDNN's `jit_1x1:avx2`, seen with PyTorch 2.14.1).

    >>> import torch
    >>> channels_last_is_safe(torch.nn.Conv2d(64, 128, 1, stride=2), torch.device("cpu"))
    True

    """
    if device.type != "cpu":
        return True
    has = torch.cpu.get_capabilities()
    return not has.get("avx2") or bool(has.get("avx512_f")) or not any(map(_is_written_beyond, network.modules()))


def _is_written_beyond(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < _FEWEST_CHANNELS
    )
