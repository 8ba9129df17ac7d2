"""How fast a machine multiplies and accumulates: what the speeds of networks can be told as shares of."""

import numpy as np
import torch
from torch import nn

from convgate.engine import Engine
from convgate.engine.compile import compile as compile_engine
from convgate.quantization import quantize

__all__ = ["peak"]

_CHANNELS, _SIDE = 512, 28
_ROUNDS = 20


def peak(threads: int) -> dict[str, float]:
    """GMAC/s by precision ("float32", "bf16", "int8") of a layer that suits the engine, in the best of 20 calls.

    A 1x1 convolution of 512 to 512 channels at 28x28 positions. Takes some tenths of a second.
    """
    layer = nn.Conv2d(_CHANNELS, _CHANNELS, 1, bias=False).eval()
    images = torch.rand(1, _CHANNELS, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    engines = {p: compile_engine(layer, images, threads=threads, precision=p) for p in ("float32", "bf16")}
    engines["int8"] = quantize(layer, [images], threads=threads)
    macs = _CHANNELS * _CHANNELS * _SIDE * _SIDE
    return {name: round(macs / _shortest(engine, images.numpy()) / 1e9, 1) for name, engine in engines.items()}


def _shortest(engine: Engine, image: np.ndarray) -> float:
    """Seconds of the operations, in the shortest of the calls."""
    return min(float(sum(engine.profile(image).values())) for _ in range(_ROUNDS)) / 1e3
