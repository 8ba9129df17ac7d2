"""Scales of values: those that were seen, and those of which nothing was."""

from types import SimpleNamespace

import numpy as np
import pytest

from convgate.engine.program import Element
from convgate.quantization import MinMax
from convgate.quantization.encodings import encodings


def found(ranges, shortcuts=()):
    watch = SimpleNamespace(ranges=lambda batches: ranges)
    groups = {name: frozenset({name}) for name in ranges}
    return encodings(watch, lambda: [np.zeros(1)], groups, shortcuts, frozenset({"a"}), MinMax())


def test_a_range_is_cut_into_the_steps_of_its_type():
    scales = found({"a": (-4.0, 2.0), "b": (0.0, 2.0)})
    assert scales["a"].element is Element.INT8
    assert scales["a"].scale == pytest.approx(4 / 127)
    assert scales["b"].element is Element.UINT8
    assert scales["b"].scale == pytest.approx(2 / 255)


def test_what_was_always_zero_has_a_scale_like_the_others():
    """A scale near 0 could not be brought to any other: gates that close a whole map must not stop a network."""
    scales = found({"a": (-4.0, 2.0), "b": (0.0, 2.0), "c": (0.0, 0.0), "d": (0.0, 3.0)})
    assert scales["c"].scale == pytest.approx(3 / 255)
    assert found({"c": (0.0, 0.0)})["c"].scale == pytest.approx(1 / 255)
