"""Average pooling against PyTorch's own, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from convgate.gating import average_pool
from convgate.gating.pooling import spread

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    shares=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    layout=st.sampled_from(LAYOUTS),
)
def test_means_and_gradients_are_those_of_adaptive_pooling(size, shares, layout):
    grid = min(size[0], shares[0]), min(size[1], shares[1])
    values = torch.randn(2, 3, *size, dtype=torch.float64).to(memory_format=layout)
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    pooled, expected = average_pool(ours, grid), F.adaptive_avg_pool2d(theirs, grid)
    torch.testing.assert_close(pooled, expected)
    weights = torch.randn_like(expected)
    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_has_the_features_dtype_and_layout(layout):
    x = torch.randn(2, 3, 8, 8, dtype=torch.bfloat16).to(memory_format=layout).requires_grad_()
    (gradient,) = torch.autograd.grad(average_pool(x, (2, 4)).float().sum(), x)
    assert gradient.dtype == torch.bfloat16
    assert gradient.is_contiguous(memory_format=layout)
    assert torch.equal(gradient.float(), torch.full((2, 3, 8, 8), 1 / 8))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spread_repeats_entries_over_tiles(layout):
    x = torch.arange(24.0).view(2, 3, 2, 2)
    expected = x.repeat_interleave(3, 2).repeat_interleave(2, 3)
    assert torch.equal(spread(x, (3, 2), layout), expected)


def test_the_map_itself_where_tiles_are_positions():
    x = torch.randn(2, 3, 4, 5)
    pooled = average_pool(x, (4, 5))
    assert torch.equal(pooled, x)
    assert pooled.data_ptr() != x.data_ptr()  # the model may overwrite x in place
