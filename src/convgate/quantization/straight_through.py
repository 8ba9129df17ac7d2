"""Rounding to integers of 8 bits and back, with gradients that pass straight through, for training.

Sources: the straight-through estimator of Bengio, Léonard, Courville: Estimating or Propagating Gradients Through
Stochastic Neurons, 2013 (arXiv:1308.3432); training with simulated quantisation of Jacob et al.: Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018 (arXiv:1712.05877), section 3.
Differences from the latter: zero is zero, so that there are no zero points, and norms are not folded while training.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from convgate.quantization.observers import BINS, Observer

__all__ = ["limit_of", "rounded", "rounded_weight"]

_SAMPLE = 1 << 14
"""So many elements of a map, at most, are looked at to choose its range."""


def rounded(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """`x` rounded to integers in [`low`, `high`] in units of `scale`, and back; in float32, given in the dtype of `x`.

    Halves go to the even integer, as in the engine. The gradient of `x` is that of the result where the integer is one
    of the range, and 0 where it had to be clipped; `scale` gets none.

    Args:
        x: any shape, any float dtype.
        scale: above 0; one number, or one for each output channel, in a shape that broadcasts.
        low: the least integer.
        high: the greatest integer.

    >>> x = torch.tensor([0.26, 0.8, -3.0], requires_grad=True)
    >>> y = rounded(x, torch.tensor(0.5), 0, 255)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.5, 1.0, 0.0], [1.0, 1.0, 0.0])

    """
    result: Tensor = _Rounding.apply(x.float(), scale, low, high)
    return result.to(x.dtype)


def rounded_weight(weight: Tensor, levels: int = 127) -> Tensor:
    """Weights [out, ..] rounded to integers in [-`levels`, `levels`], with a scale for each output channel, and back.

    The scale is the greatest magnitude of the channel over `levels`, a constant in the backward pass. The factor of a
    norm behind the layer changes scale and weights alike, so that rounding before it is folded into the weights, as
    here, gives the same integers, but for their sign, as rounding afterwards does, as in `convgate.quantize`.
    """
    greatest = weight.detach().float().flatten(1).abs().amax(1)
    scale = torch.where(greatest > 0, greatest / levels, 1.0).view(-1, *[1] * (weight.dim() - 1))
    return rounded(weight, scale, -levels, levels)


def limit_of(x: Tensor, observer: Observer, levels: int) -> float:
    """The limit that the observer gives for what a map holds, of which a sample is looked at; 0 if it tells nothing.

    Nothing is told by a map that holds zeros alone, or values that are not finite.
    """
    x = x.detach()
    greatest = float(x.abs().amax())
    if not 0 < greatest < np.inf:
        return 0.0
    # Odd, so that the sample does not stay in one column of the map.
    step = (x.numel() // _SAMPLE) | 1
    sample = x.flatten()[::step].abs().float().numpy(force=True)
    bins = (sample[sample > 0] * np.float32(BINS / greatest)).astype(np.int32)
    histogram = np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)
    return observer.limit(greatest, histogram, levels) if histogram.any() else greatest


class _Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        units = x * scale.reciprocal()
        # Half a step beyond, as 127.00001 rounds to 127: else the greatest weight of a channel might learn nothing.
        ctx.save_for_backward((units >= low - 0.5) & (units <= high + 0.5))
        return units.round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None
