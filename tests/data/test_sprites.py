import numpy as np
import pytest
import torch

from convgate.data.sprites import SIDE, bars, fragments, glyphs, place, spots


def rng(seed=0):
    return np.random.default_rng(seed)


def where(mask):
    """Mean x and y, from -1 to 1, and the extent in x and y as a fraction of the side, of what is drawn."""
    size = mask.shape[-1]
    ys, xs = (mask[0] > 0.5).nonzero().T
    centre = [((v.float().mean() + 0.5) * 2 / size - 1).item() for v in (xs, ys)]
    return centre, [(v.max() - v.min() + 1).item() / size for v in (xs, ys)]


def full(n=1):
    return torch.ones(n, 1, SIDE, SIDE)


def at(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_place_puts_a_sprite_where_and_as_large_as_told():
    sprites = full(2)
    out = place(sprites, at(0.5, 0.25), at(0.25, 0.25), at((0.2, -0.4), (-0.5, 0.5)), at(0.0, 0.0), 80)
    assert out.shape == (2, 1, 80, 80)
    for mask, centre, extent in zip(out, ((0.2, -0.4), (-0.5, 0.5)), ((0.5, 0.25), (0.25, 0.25)), strict=True):
        got_centre, got_extent = where(mask)
        assert got_centre == pytest.approx(centre, abs=0.03)
        assert got_extent == pytest.approx(extent, abs=0.03)


def test_place_turns_a_sprite_about_its_centre():
    out = place(full(), at(0.6), at(0.2), at((0.1, 0.3)), at(np.pi / 2), 80)
    centre, extent = where(out[0])
    assert centre == pytest.approx((0.1, 0.3), abs=0.03)
    assert extent == pytest.approx((0.2, 0.6), abs=0.03)


def test_glyphs_keep_ink_and_paper_where_they_were():
    scan = np.zeros((1, 8, 8))
    scan[0, 2:6, 3:5] = 16
    mask = glyphs(scan)
    assert mask.shape == (1, 1, SIDE, SIDE)
    assert 0 <= mask.min() <= mask.max() <= 1
    assert mask[0, 0, 12:20, 14:18].min() > 0.95
    assert mask[0, 0, :, :8].max() == 0
    assert mask[0, 0, :4].max() == 0


def test_a_fragment_is_a_quarter_or_so_of_its_mask():
    left = fragments(full(200), rng()).mean((1, 2, 3))
    assert left.min() > 0.1
    assert left.max() < 0.35
    hole = full(50)
    hole[:, :, :16] = 0
    assert (fragments(hole, rng())[:, :, :16] == 0).all()


@pytest.mark.parametrize("draw", [bars, spots])
def test_shapes_are_varied_masks_that_stay_off_the_edge(draw):
    masks = draw(50, rng())
    assert masks.shape == (50, 1, SIDE, SIDE)
    assert 0 <= masks.min() <= masks.max() <= 1
    assert masks.amax((1, 2, 3)).min() > 0.8
    assert masks[..., 0].max() == 0
    assert masks[..., -1].max() == 0
    assert len({round(m.mean().item(), 5) for m in masks}) > 25
