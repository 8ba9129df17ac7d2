"""Tables of activations, against PyTorch's functions."""

import numpy as np
import pytest
import torch
from tests.engine.definitions import EXAMPLES
from tests.engine.definitions import activated as by_torch

from convgate.engine.program import Activation, Element, Value
from convgate.quantization.functions import activated, clamp_of, table


@pytest.mark.parametrize("activation", EXAMPLES, ids=str)
def test_functions(activation):
    x = np.linspace(-30, 30, 1001)
    expected = by_torch(torch.from_numpy(x), activation).numpy()
    np.testing.assert_allclose(activated(activation, x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", EXAMPLES, ids=str)
def test_those_that_clamp_are_told_by_their_limits(activation):
    limits = clamp_of(activation)
    x = np.linspace(-30, 30, 1001)
    result = activated(activation, x)
    clamps = np.array_equal(np.clip(x, result.min(), result.max()), result) and result[500] == 0
    assert (limits is not None) == clamps
    if limits is not None:
        np.testing.assert_array_equal(np.clip(x, *limits), result)


def test_a_table_has_the_nearest_integer_for_every_integer():
    read, written = Value("x", 1, 1, 1, Element.INT8, 0.1), Value("y", 1, 1, 1, Element.UINT8, 0.05)
    entries = table(Activation("silu"), read, written)
    assert entries.dtype == np.uint8
    for integer in (-127, -1, 0, 5, 60, 127):
        exact = float(by_torch(torch.tensor(integer * 0.1, dtype=torch.float64), Activation("silu"))) / 0.05
        assert abs(entries[integer + 128] - np.clip(exact, 0, 255)) <= 0.5
