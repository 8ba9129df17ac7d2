"""What is rounded is on the grid, and gradients pass where it was not clipped."""

import numpy as np
import pytest
import torch

from convgate.quantization import MinMax
from convgate.quantization.straight_through import limit_of, rounded, rounded_weight


def test_gradients_pass_inside_of_the_range_and_end_outside():
    x = torch.tensor([-130.0, -127.4, -1.3, 0.0, 0.5, 126.9, 127.4, 128.0], requires_grad=True)
    y = rounded(x, torch.tensor(1.0), -127, 127)
    y.backward(torch.arange(1.0, 9.0))
    assert y.tolist() == [-127, -127, -1, 0, 0, 127, 127, 127]  # halves to the even integer
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 6, 7, 0]


def test_what_is_not_a_number_stays_so_that_training_ends_with_an_error():
    assert rounded(torch.tensor([float("nan")]), torch.tensor(1.0), 0, 255).isnan().all()


def test_weights_are_those_of_the_engine_also_behind_norms():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 3, 3, 3, generator=generator)
    weight[2] = 0
    weight.requires_grad_(True)
    found = rounded_weight(weight)
    found.sum().backward()
    assert weight.grad.eq(1).all()  # that of the greatest weight of each channel, too
    factors = torch.tensor([2.0, -0.3, 1.0, 5.0, -1.0]).view(5, 1, 1, 1)
    folded = (weight * factors).detach().numpy().astype(np.float64)
    units = np.abs(folded).reshape(5, -1).max(1).reshape(5, 1, 1, 1) / 127
    expected = np.rint(folded / np.where(units > 0, units, 1)) * units
    np.testing.assert_allclose((found * factors).detach().numpy(), expected, rtol=1e-5, atol=1e-7)
    assert (found[0] / found[0].abs().max() * 127).round().unique().numel() > 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_rounding_is_done_in_float32_and_given_in_the_dtype_of_what_came(dtype):
    x = torch.linspace(-1, 1, 41, dtype=dtype)
    y = rounded(x, torch.tensor(0.1), -127, 127)
    assert y.dtype == dtype
    assert torch.equal(y, rounded(x.float(), torch.tensor(0.1), -127, 127).to(dtype))


def test_a_limit_is_that_of_the_observer():
    x = torch.zeros(4, 3, 40, 40)
    assert limit_of(x, MinMax(), 255) == 0
    x[1, 2, 3, 4] = -7.0  # not among the elements of the sample
    assert limit_of(x, MinMax(), 127) == 7
    assert limit_of(torch.full((3,), float("inf")), MinMax(), 127) == 0
    seen = {}

    class Own:
        def limit(self, greatest, histogram, levels):
            seen.update(greatest=greatest, histogram=histogram, levels=levels)
            return 1.5

    assert limit_of(torch.tensor([0.0, -1.0, 2.0, 2.0]), Own(), 99) == 1.5
    assert (seen["greatest"], seen["levels"]) == (2.0, 99)
    assert (seen["histogram"][1024], seen["histogram"][-1], seen["histogram"].sum()) == (1, 2, 3)
