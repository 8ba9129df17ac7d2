"""What 1 stands for in the weights of a convolution of integers."""

import numpy as np

__all__ = ["MOST_BIAS", "weight_units"]

MOST_BIAS = 1 << 24
"""A bias in units of its sums; larger ones, of channels with tiny weights, make these units larger."""


def weight_units(weights: list[np.ndarray], bias: np.ndarray | None, scale: float) -> np.ndarray:
    """The unit of each output channel's weights, float64 [out], for maps in units of `scale`.

    It is the least that keeps all weights within 127, and the bias within 2^24 units of the sums, which are `scale`
    times as large. `weights` are [out, ..] each; those of several convolutions whose sums are added share their units.
    """
    units = np.max([np.abs(weight.reshape(len(weight), -1)).max(1) for weight in weights], axis=0) / 127
    if bias is not None:
        units = np.maximum(units, np.abs(bias) / (scale * MOST_BIAS))
    return np.where(units > 0, units, 1.0)
