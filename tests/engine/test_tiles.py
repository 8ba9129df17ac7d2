"""Tiles over positions: PyTorch's, the native engine's and those of the reference for integers are the same."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from convgate.engine import Engine
from convgate.engine.integer import IntegerNetwork
from convgate.engine.program import Decide, Dequantize, Element, Gate, Mask, Program, Quantize, Value
from convgate.engine.tiles import tile_of
from convgate.gating import expand_tiles

SIZES = range(1, 301)


def test_uneven_tiles_are_those_of_nearest_neighbours():
    differ = set()
    for size in SIZES:
        for tiles in range(1, size + 1):
            found = tile_of(size, tiles)
            if size % tiles == 0:
                assert (found == np.repeat(np.arange(tiles), size // tiles)).all()
                continue
            numbers = torch.arange(tiles, dtype=torch.float32)[None, None]
            assert (found == F.interpolate(numbers, size=size, mode="nearest")[0, 0].numpy()).all()
            if (found != np.arange(size) * tiles // size).any():
                differ.add((size, tiles))
    assert {(44, 26), (94, 32)} <= differ, "rounding matters"


@pytest.mark.parametrize(("size", "tiles"), [(44, 26), (94, 32), (7, 3), (12, 4)])
def test_the_reference_masks_as_the_engine_does(size, tiles):
    values = (
        Value("images", 2, size, 3), Value("logits", 1, tiles, 2), Value("x", 2, size, 3, Element.INT8, 0.25),
        Value("y", 2, size, 3, Element.INT8, 0.25), Value("end", 2, size, 3),
    )  # fmt: skip
    operations = (
        Decide(("logits",), "g", "zero"), Quantize(("images",), "x"), Mask(("x",), "y", "g"), Dequantize(("y",), "end")
    )  # fmt: skip
    zero = {"zero": np.zeros((1, tiles, 2), np.float32)}
    program = Program(values, (Gate("g", "spatial", (1, tiles, 2)),), operations, ("images", "logits"), ("end",), zero)
    logits = np.tile([[1, -1], [-1, 1]], (1, 1, tiles // 2 + 1, 1))[:, :, :tiles].astype(np.float32)
    images = [np.ones((1, 2, size, 3), np.float32), logits]
    engine = Engine(program, threads=1)
    native = engine.run(*images).outputs[0]
    (reference,) = IntegerNetwork(program, 1, engine.isa).run(images, {}).outputs
    assert (reference == native).all()
    spread = expand_tiles(torch.from_numpy(logits > 0).float(), (size, 3)).numpy()
    assert (native == np.broadcast_to(spread, native.shape)).all()
