"""Quantisation: from a network and images to a program of 8-bit integers, without training or with some beforehand.

`observers` say how large the integers' range is to be for what was observed; `statistics` observes. `roles` says which
operations compute with integers and which values share a scale, `rewrite` writes the program. Its arithmetic is defined
in `convgate.engine.integer`.

`fake` trains a network for that: `reads` says which layers round what, `straight_through` how, and how gradients pass.
"""

from convgate.quantization.fake import FakeQuantization, fake_quantized
from convgate.quantization.observers import MeanSquaredError, MinMax, Observer, Percentile
from convgate.quantization.quantize import quantize

__all__ = [
    "FakeQuantization",
    "MeanSquaredError",
    "MinMax",
    "Observer",
    "Percentile",
    "fake_quantized",
    "quantize",
]
