"""Quantisation: from a network and images to a program of 8-bit integers, without training.

`observers` say how large the integers' range is to be for what was observed; `statistics` observes. `roles` says which
operations compute with integers and which values share a scale, `rewrite` writes the program. Its arithmetic is defined
in `convgate.engine.integer`.
"""

from convgate.quantization.observers import MeanSquaredError, MinMax, Observer, Percentile
from convgate.quantization.quantize import quantize

__all__ = ["MeanSquaredError", "MinMax", "Observer", "Percentile", "quantize"]
