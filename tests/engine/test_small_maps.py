"""Convolutions on small maps of many channels, where gates close positions, inputs and outputs: random masks."""

import numpy as np
import pytest
from tests.engine.programs import images, masks
from tests.engine.test_identity import same
from tests.engine.test_runtime_fuzz import assert_right

from convgate.engine.engine import Engine
from convgate.engine.program import Activation, Conv, Decide, Gate, PoolToGrid, Program, Value
from convgate.engine.runtime import instruction_sets

ISAS = instruction_sets()


def gated(kernel, height, width, channels, tiles, reach=(0, 0)):
    """A convolution to closed outputs, one from closed inputs to closed outputs, and one from closed inputs."""
    rng, relu = np.random.default_rng(0), Activation("relu")
    arrays = {
        name: rng.standard_normal((channels, channels, kernel, kernel)).astype(np.float32) / 30
        for name in ("wa", "wb", "wc")
    }
    arrays |= {"bias": rng.standard_normal(channels).astype(np.float32)}
    arrays |= {"head": rng.standard_normal((channels, channels, 1, 1)).astype(np.float32) / 10}
    arrays |= {"offset": np.zeros((channels, 1, 1), np.float32)}
    arrays |= {"spatial": rng.standard_normal((1, channels, 1, 1)).astype(np.float32)}
    arrays |= {"zero": np.zeros((1, *tiles), np.float32)}
    values = [Value(name, channels, height, width) for name in ("x", "a", "b", "c")]
    values += [Value("mean", channels, 1, 1), Value("grid", channels, *tiles)]
    values += [Value("tiles", 1, *tiles), Value("first", channels, 1, 1), Value("second", channels, 1, 1)]
    where = {"padding": (kernel // 2,) * 4, "activation": relu, "positions": "open", "reach": reach}
    operations = (
        PoolToGrid(("x",), "mean"),
        PoolToGrid(("x",), "grid"),
        Conv(("grid",), "tiles", "spatial", "", "open"),
        Decide(("tiles",), "open", "zero"),
        Conv(("mean",), "first", "head", "", "one"),
        Decide(("first",), "one", "offset"),
        Conv(("mean",), "second", "head", "bias", "two"),
        Decide(("second",), "two", "offset"),
        Conv(("x",), "a", "wa", "bias", "a", out_channels="one", **where),
        Conv(("a",), "b", "wb", "", "b", in_channels="one", out_channels="two", **where),
        Conv(("b", "x"), "c", "wc", "bias", "c", in_channels="two", **where),
    )
    gates = (
        Gate("open", "spatial", (1, *tiles)),
        Gate("one", "channel", (channels, 1, 1)),
        Gate("two", "channel", (channels, 1, 1)),
    )
    return Program(tuple(values), gates, operations, ("x",), ("c",), arrays, ("open", "one", "two", "a", "b", "c"))


@pytest.mark.parametrize(
    ("kernel", "height", "width", "channels", "tiles", "reach"),
    [
        (3, 8, 8, 96, (4, 4), (0, 0)),
        (3, 7, 7, 112, (7, 7), (0, 0)),
        (3, 7, 8, 100, (1, 1), (0, 0)),
        (3, 8, 7, 80, (4, 7), (1, 1)),
        # 49 and 35 positions, some more than fill vectors.
        (1, 7, 7, 100, (7, 7), (0, 0)),
        (5, 5, 7, 70, (1, 1), (0, 0)),
    ],
)
def test_masks_of_small_maps(kernel, height, width, channels, tiles, reach):
    program = gated(kernel, height, width, channels, tiles, reach)
    for share, sets in ((0.0, ISAS[:1]), (0.1, ISAS[:2]), (0.6, ISAS), (1.0, ISAS[:1])):
        x, drawn = images(program, 2), masks(program, 2, share, seed=3)
        outputs = {isa: assert_right(Engine(program, threads=1, isa=isa), x, drawn).outputs for isa in sets}
        # Of one sample, threads share the work.
        first = {name: mask[:1] for name, mask in drawn.items()}
        alone = Engine(program, threads=3, isa=ISAS[0]).run(x[0][:1], given=first).outputs
        assert same(alone, [array[:1] for array in outputs[ISAS[0]]])
        if {"avx2", "avx512"} <= set(outputs):
            assert same(outputs["avx2"], outputs["avx512"])
