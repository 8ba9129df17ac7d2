"""Photographs of random pixels, for commands that read files."""

import numpy as np
from PIL import Image


def write_photographs(folder, count):
    """0.png, 1.png, .. of 40 x 30 pixels in a new folder, the same each time."""
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
