"""Closed tiles are filled, open ones stay, whatever the sizes."""

import pytest
import torch

from convgate.gating import FillPath, expand_tiles, fill_closed


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (82, 2), (3, 5)])
def test_each_closed_position_gets_its_tiles_value(size):
    generator = torch.Generator().manual_seed(0)
    x, filling = torch.randn(2, 3, *size, generator=generator), torch.randn(2, 3, 2, 2, generator=generator)
    mask = torch.randint(0, 2, (2, 1, 2, 2), generator=generator).float()
    filled = fill_closed(x, mask, filling)
    spread = expand_tiles(mask, size).expand_as(x) > 0
    torch.testing.assert_close(filled[spread], x[spread], rtol=0, atol=0)
    expected = x + torch.stack([expand_tiles(filling[:, c : c + 1], size)[:, 0] for c in range(3)], 1)
    torch.testing.assert_close(filled[~spread], expected[~spread], rtol=0, atol=0)


def test_gradients_reach_path_and_mask():
    x, mask = torch.zeros(1, 2, 4, 4), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]], requires_grad=True)
    filling = torch.ones(1, 2, 2, 2, requires_grad=True)
    fill_closed(x, mask, filling).sum().backward()
    assert filling.grad[0, 0].tolist() == [[0, 4], [4, 0]]
    assert mask.grad[0, 0].tolist() == [[-8, -8], [-8, -8]]  # of two channels, four positions each


def test_a_path_starts_at_zero():
    assert not FillPath(3, 5)(torch.randn(1, 3, 2, 2)).any()
