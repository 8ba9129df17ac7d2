from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hardware.programs import engine_of

from convgate.gating import expand_tiles
from convgate.hardware.counts import bands, tile_positions
from convgate.hardware.positions import expanded, lines, read_positions, touched_lines
from convgate.hardware.rtl.geometry import open_places
from convgate.hardware.workload import Workload

SIDE = st.integers(1, 12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), SIDE, SIDE, SIDE, SIDE, st.integers(1, 40))
def test_tiles_spread_as_masks_do(seed, rows, columns, height, width, most):
    rows, columns = min(rows, height), min(columns, width)
    mask = np.random.default_rng(seed).integers(0, 2, (3, 1, rows, columns)).astype(np.uint8)
    whole = expand_tiles(torch.from_numpy(mask).float(), (height, width)).numpy()[:, 0] != 0
    assert (expanded(mask, (height, width)) == whole).all()
    ranges = bands((height, width), most)
    assert [y for begin, end in ranges for y in range(begin, end)] == list(range(height))
    counted = mask.reshape(3, -1) @ tile_positions((rows, columns), (height, width), ranges)
    assert (counted == np.stack([whole[:, begin:end].sum((1, 2)) for begin, end in ranges], 1)).all()


def test_tiles_spread_as_masks_do_where_rounding_matters():
    size, tiles = (94, 44), (32, 26)
    mask = np.random.default_rng(0).integers(0, 2, (1, 1, *tiles)).astype(np.uint8)
    whole = expand_tiles(torch.from_numpy(mask).float(), size).numpy()[0, 0] != 0
    assert (expanded(mask, size)[0] == whole).all()
    assert (mask.reshape(1, -1) @ tile_positions(tiles, size, ((0, size[0]),))).item() == whole.sum()
    assert sorted(open_places(mask[0, 0], size)) == np.flatnonzero(whole).tolist()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_read_is_what_a_convolution_touches(data):
    """A position is read if a convolution with weights of 1 sends a gradient to it."""
    small = st.integers(1, 3)
    kernel, stride, dilation = (data.draw(st.tuples(small, small)) for _ in range(3))
    padding = data.draw(st.integers(0, 2))
    size = tuple(data.draw(st.integers(dilation[i] * (kernel[i] - 1) + 1, 11)) for i in range(2))
    x = torch.zeros(2, 1, *size, requires_grad=True)
    y = F.conv2d(x, torch.ones(1, 1, *kernel), None, stride, padding, dilation)
    open_ = torch.from_numpy(np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 2, tuple(y.shape)))
    (y * open_).sum().backward()
    step = next(Workload.of(engine_of("dual")[0].program).array_steps())
    around = (padding,) * 4
    step = replace(step, source=size, kernel=kernel, stride=stride, padding=around, dilation=dilation)
    step = replace(step, out=tuple(y.shape[2:]))
    assert (read_positions(step, open_.numpy()[:, 0] != 0) == (x.grad.numpy()[:, 0] != 0)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 40), st.integers(1, 150), st.sampled_from([32, 64]))
def test_lines_are_those_that_bytes_lie_in(seed, entries, size, line):
    touched = np.random.default_rng(seed).integers(0, 2, (3, entries)) != 0
    padded = -(-size // line) * line if size >= line else 1 << (size - 1).bit_length()
    for image, found in zip(touched, lines(touched, size, line), strict=True):
        bytes_ = [entry * padded + i for entry in np.flatnonzero(image) for i in range(size)]
        assert found == len({byte // line for byte in bytes_})
    for image, found in zip(touched, touched_lines(touched, size, line), strict=True):
        bytes_ = [entry * size + i for entry in np.flatnonzero(image) for i in range(size)]
        assert found == len({byte // line for byte in bytes_})
