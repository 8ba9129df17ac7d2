import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convgate.gating import dilate, expand_channels, expand_tiles, mask_channels, mask_positions

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@st.composite
def tiled(draw):
    """(height, width, rows, columns) with rows <= height and columns <= width."""
    height, width = draw(sizes)
    return height, width, draw(st.integers(1, height)), draw(st.integers(1, width))


def draw_mask(shape, seed):
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).float()


def brute_force(mask, height, width):
    """Nearest neighbour: position (y, x) belongs to tile (y * rows // height, x * columns // width)."""
    n, _, rows, columns = mask.shape
    out = torch.empty(n, 1, height, width)
    for y in range(height):
        for x in range(width):
            out[:, :, y, x] = mask[:, :, y * rows // height, x * columns // width]
    return out


@settings(deadline=None)
@given(tiled(), st.integers(1, 3), st.integers(0, 99))
def test_tiles_spread_to_the_nearest_positions(grid, n, seed):
    height, width, rows, columns = grid
    mask = draw_mask((n, 1, rows, columns), seed)
    assert torch.equal(expand_tiles(mask, (height, width)), brute_force(mask, height, width))


def brute_dilation(mask, reach):
    """A position is open if one is that is at most `reach` rows and columns away."""
    out = torch.zeros_like(mask)
    for n, c, y, x in mask.nonzero().tolist():
        out[n, c, max(y - reach[0], 0) : y + reach[0] + 1, max(x - reach[1], 0) : x + reach[1] + 1] = 1
    return out


@settings(deadline=None, max_examples=50)
@given(tiled(), st.tuples(st.integers(0, 4), st.integers(0, 4)), st.integers(0, 99))
def test_dilated_masks(grid, reach, seed):
    height, width, rows, columns = grid
    mask = draw_mask((2, 1, rows, columns), seed).requires_grad_()
    wanted = brute_dilation(brute_force(mask.detach(), height, width), reach)
    assert torch.equal(dilate(expand_tiles(mask, (height, width)), reach), wanted)
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    y = mask_positions(x, mask, reach)
    assert torch.equal(y, x * wanted)
    y.sum().backward()
    assert torch.equal(x.grad, wanted.expand_as(x))
    # What a tile opens beside itself is its, too: nothing that is open is without a gradient.
    open_sum = (x.detach() * wanted).sum()
    torch.testing.assert_close((mask.grad * mask.detach()).sum(), open_sum, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(tiled(), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_masked_positions_are_zero_and_others_untouched(grid, n, channels, seed):
    height, width, rows, columns = grid
    mask = draw_mask((n, 1, rows, columns), seed).requires_grad_()
    x = torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    y = mask_positions(x, mask)
    expected = x * brute_force(mask.detach(), height, width)
    assert y.shape == x.shape
    assert torch.equal(y, expected)
    # The gradient of a mask entry is the sum over its tile; that of x is the mask itself.
    y.sum().backward()
    assert torch.equal(x.grad, brute_force(mask.detach(), height, width).expand_as(x))
    total = torch.zeros_like(mask)
    for i in range(height):
        for j in range(width):
            total[:, 0, i * rows // height, j * columns // width] += x.detach()[:, :, i, j].sum(1)
    torch.testing.assert_close(mask.grad, total, rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(st.integers(1, 13), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
def test_channel_groups_are_neighbours_and_the_last_may_be_smaller(channels, group, n, seed):
    groups = -(-channels // group)
    mask = draw_mask((n, groups, 1, 1), seed)
    spread = expand_channels(mask, channels, group)
    assert spread.shape == (n, channels, 1, 1)
    x = torch.randn(n, channels, 2, 3)
    y = mask_channels(x, mask, group)
    for c in range(channels):
        assert torch.equal(spread[:, c], mask[:, c // group])
        assert torch.equal(y[:, c], x[:, c] * mask[:, c // group])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(8, 8), (7, 7)])
def test_masks_keep_the_features_dtype(dtype, shape):
    x = torch.randn(2, 3, *shape).to(dtype)
    assert mask_positions(x, torch.ones(2, 1, 4, 4)).dtype == dtype
    assert torch.equal(mask_positions(x, torch.ones(2, 1, 4, 4)), x)
    assert torch.equal(mask_channels(x, torch.ones(2, 3, 1, 1)), x)


@pytest.mark.parametrize("shape", [(8, 8), (7, 7)])
def test_masks_keep_channels_last(shape):
    x = torch.randn(2, 3, *shape).contiguous(memory_format=torch.channels_last)
    mask = draw_mask((2, 1, 4, 4), 0)
    assert torch.equal(mask_positions(x, mask), mask_positions(x.contiguous(), mask))
    assert mask_channels(x, torch.ones(2, 3, 1, 1)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("size", "tiles"), [(82, 2), (110, 2), (123, 3), (164, 4)])
def test_even_tiles_are_exact_where_interpolation_rounds(size: int, tiles: int) -> None:
    mask = torch.arange(tiles * tiles, dtype=torch.float32).view(1, 1, tiles, tiles)
    exact = torch.arange(size) // (size // tiles)
    spread = expand_tiles(mask, (size, size))[0, 0]
    assert torch.equal(spread, (exact[:, None] * tiles + exact).float())
    assert not torch.equal(spread, torch.nn.functional.interpolate(mask, size=(size, size), mode="nearest")[0, 0])
