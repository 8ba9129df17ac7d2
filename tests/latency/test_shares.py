"""Shares of what is open, against masks that are spread over every position and channel."""

import numpy as np
import pytest
import torch

from convgate.gating import dilate, expand_channels, expand_tiles
from convgate.latency.shares import Activations, Channels, Positions, Squares


def mask(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.uint8)


def spread(tiles, height, width):
    return expand_tiles(torch.from_numpy(tiles).float(), (height, width)).numpy()


@pytest.mark.parametrize(("tiles", "size"), [((4, 4), (8, 8)), ((3, 5), (7, 11)), ((1, 1), (5, 6)), ((7, 7), (7, 7))])
@pytest.mark.parametrize("reach", [(0, 0), (1, 0), (2, 1)])
def test_positions_and_squares(tiles, size, reach):
    masks = {"g": mask(3, 1, *tiles)}
    masks["g"][0] = 0
    masks["g"][0, 0, 0, 0] = 1
    full = dilate(torch.from_numpy(spread(masks["g"], *size)), reach).numpy()
    assert Positions("g", *size, reach).of(masks) == pytest.approx(full.mean((1, 2, 3)))
    padded = np.pad(full[:, 0], ((0, 0), (0, size[0] % 2), (0, size[1] % 2)))
    squares = padded.reshape(3, padded.shape[1] // 2, 2, padded.shape[2] // 2, 2).max((2, 4))
    assert Squares("g", *size, reach).of(masks) == pytest.approx(squares.mean((1, 2)))


@pytest.mark.parametrize(("channels", "group"), [(20, 1), (20, 6), (16, 16)])
@pytest.mark.parametrize("lanes", [1, 16])
def test_channels(channels, group, lanes):
    masks = {"g": mask(4, -(-channels // group), 1, 1)}
    open_ = expand_channels(torch.from_numpy(masks["g"]), channels, group).flatten(1).sum(1).numpy()
    expected = np.ceil(open_ / lanes) / np.ceil(channels / lanes)
    assert Channels("g", channels, group, lanes).of(masks) == pytest.approx(expected)


def test_activations():
    masks = {"g": mask(2, 6, 3, 3)}
    assert Activations("g", 24, 4).of(masks) == pytest.approx(masks["g"].mean((1, 2, 3)))
    padded = np.pad(masks["g"], ((0, 0), (0, 2), (0, 0), (0, 0)))
    blocks = padded.reshape(2, 2, 4, 3, 3).max(2)
    assert Activations("g", 24, 4, 16).of(masks) == pytest.approx(blocks.mean((1, 2, 3)))
