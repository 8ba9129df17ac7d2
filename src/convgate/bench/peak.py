"""What the speeds of networks can be told as shares of: how fast a machine multiplies, and how near its cores are."""

import time

import numpy as np
import torch
from torch import nn

from convgate.engine import Engine
from convgate.engine.compile import compile as compile_engine
from convgate.engine.precision import Precision
from convgate.engine.runtime import seconds_to_share
from convgate.quantization import quantize
from convgate.timing.interleave import WARM

__all__ = ["are_near", "cores", "peak", "speed_within"]

_CHANNELS, _SIDE = 512, 28
_ROUNDS = 20
_LOOKS = 5


def cores(threads: int) -> dict[str, float]:
    """How these threads get on with each other, measured in some hundredths of a second.

    "sharing_ns": nanoseconds to share out a loop, see `seconds_to_share`; "scaling": how many times as fast as one
    thread they multiply in float32, near 1 where two "cores" of a virtual machine are one.
    """
    sharing = round(1e9 * seconds_to_share(threads), 1)
    return {"sharing_ns": sharing, "scaling": round(_speed(threads, "float32") / _speed(1, "float32"), 2)}


def are_near(threads: int, nanoseconds: float) -> bool:
    """Whether the threads share a loop out in that time, by the best of some looks a few hundredths of a second apart.

    Threads of an engine that was just timed may still wait actively for work, and be in the way of the first looks.
    """
    for _ in range(_LOOKS):
        if 1e9 * seconds_to_share(threads) <= nanoseconds:
            return True
        time.sleep(WARM)
    return False


def peak(threads: int) -> dict[str, float]:
    """GMAC/s by precision ("float32", "bf16", "int8") of a layer that suits the engine, in the best of 20 calls.

    A 1x1 convolution of 512 to 512 channels at 28x28 positions. Takes some tenths of a second.
    """
    return {precision: round(_speed(threads, precision), 1) for precision in ("float32", "bf16", "int8")}


def speed_within(layer: nn.Conv2d, side: int, threads: int, precision: str) -> float:
    """GMAC/s of a convolution that another one reads, in the shortest of 20 calls on an image of side x side positions.

    `layer`: writes as many positions as it reads.
    """
    engine, images = _built(nn.Sequential(layer, nn.Conv2d(layer.out_channels, 8, 1)), layer, side, threads, precision)
    return side * side * layer.weight.numel() / 1e6 / min(engine.profile(images)["0"] for _ in range(_ROUNDS))


def _speed(threads: int, precision: str) -> float:
    layer = nn.Conv2d(_CHANNELS, _CHANNELS, 1, bias=False)
    engine, images = _built(layer, layer, _SIDE, threads, precision)
    taken = min(sum(engine.profile(images).values()) for _ in range(_ROUNDS))
    return float(engine.run(images).macs[0]) / 1e6 / taken


def _built(network: nn.Module, first: nn.Conv2d, side: int, threads: int, precision: str) -> tuple[Engine, np.ndarray]:
    """An engine for a network that begins with `first`, and an image of side x side positions."""
    images = torch.rand((1, first.in_channels, side, side), generator=torch.Generator().manual_seed(0))
    if precision == Precision.INT8:
        return quantize(network.eval(), [images], threads=threads), images.numpy()
    return compile_engine(network.eval(), images, threads=threads, precision=precision), images.numpy()
