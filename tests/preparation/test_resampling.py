"""Resizing in NumPy gives Pillow's bits."""

import numpy as np
import pytest
from PIL import Image

from convgate.preparation.resampling import FILTERS, resize


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(
    ("size", "wanted"),
    [((37, 50), (16, 21)), ((9, 7), (33, 20)), ((1, 1), (8, 8)), ((1, 9), (4, 3)), ((64, 20), (64, 9))],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_filter_gives_the_bits_of_pillow(interpolation, size, wanted, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    theirs = np.asarray(image.resize(wanted[::-1], Image.Resampling[interpolation.upper()])).reshape(*wanted, channels)
    np.testing.assert_array_equal(resize(pixels, *wanted, interpolation), theirs)
