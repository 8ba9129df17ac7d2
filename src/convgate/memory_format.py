"""How a network lies in memory while it is trained: channels last, where convolutions take the least time."""

import torch
from torch import nn

__all__ = ["format_for_training"]

_FEWEST_CHANNELS = 8


def format_for_training(network: nn.Module, device: torch.device) -> torch.memory_format:
    """`torch.channels_last`, or `torch.contiguous_format` where PyTorch would write beyond its memory else.

    It does on processors with AVX2 and without AVX-512: the gradient of a 1x1 convolution's weights, with a stride and
    fewer than 8 input channels, is written beyond its end (oneDNN's `jit_1x1:avx2`, seen with PyTorch 2.14.1).

    >>> import torch
    >>> format_for_training(torch.nn.Conv2d(64, 128, 1, stride=2), torch.device("cpu"))
    torch.channels_last

    """
    if device.type != "cpu":
        return torch.channels_last
    has = torch.cpu.get_capabilities()
    writes_beyond = has.get("avx2") and not has.get("avx512_f") and any(map(_is_written_beyond, network.modules()))
    return torch.contiguous_format if writes_beyond else torch.channels_last


def _is_written_beyond(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < _FEWEST_CHANNELS
    )
