"""What the speeds of networks can be told as shares of: how fast a machine multiplies, and how near its cores are."""

import numpy as np
import torch
from torch import nn

from convgate.engine import Engine
from convgate.engine.compile import compile as compile_engine
from convgate.engine.precision import Precision
from convgate.engine.runtime import seconds_to_share
from convgate.quantization import quantize

__all__ = ["cores", "peak", "speed"]

_CHANNELS, _SIDE = 512, 28
_ROUNDS = 20


def cores(threads: int) -> dict[str, float]:
    """How these threads get on with each other, measured in some hundredths of a second.

    "sharing_ns": nanoseconds to share out a loop, see `seconds_to_share`; "scaling": how many times as fast as one
    thread they multiply in float32, near 1 where two "cores" of a virtual machine are one.
    """
    sharing = round(1e9 * seconds_to_share(threads), 1)
    return {"sharing_ns": sharing, "scaling": round(_speed(threads, "float32") / _speed(1, "float32"), 2)}


def peak(threads: int) -> dict[str, float]:
    """GMAC/s by precision ("float32", "bf16", "int8") of a layer that suits the engine, in the best of 20 calls.

    A 1x1 convolution of 512 to 512 channels at 28x28 positions. Takes some tenths of a second.
    """
    return {precision: round(_speed(threads, precision), 1) for precision in ("float32", "bf16", "int8")}


def speed(layer: nn.Conv2d, side: int, threads: int, precision: str) -> float:
    """GMAC/s of a convolution, in the shortest of 20 calls on an image of side x side positions."""
    shape = (1, layer.in_channels, side, side)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if precision == Precision.INT8:
        engine = quantize(layer.eval(), [images], threads=threads)
    else:
        engine = compile_engine(layer.eval(), images, threads=threads, precision=precision)
    return float(engine.run(images.numpy()).macs[0]) / _shortest(engine, images.numpy()) / 1e9


def _speed(threads: int, precision: str) -> float:
    return speed(nn.Conv2d(_CHANNELS, _CHANNELS, 1, bias=False), _SIDE, threads, precision)


def _shortest(engine: Engine, image: np.ndarray) -> float:
    """Seconds of the operations, in the shortest of the calls."""
    return min(float(sum(engine.profile(image).values())) for _ in range(_ROUNDS)) / 1e3
