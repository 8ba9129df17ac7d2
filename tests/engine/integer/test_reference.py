"""The reference's operations against PyTorch's in double precision, which has every integer that occurs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.engine.integer.programs import one_operation

from convgate.engine.integer import brought
from convgate.engine.program import (
    Concat,
    Dequantize,
    Element,
    IntegerAdd,
    IntegerConv,
    IntegerConvToFloat,
    IntegerMean,
    Lookup,
    Pad,
    Pick,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    Quantize,
    Reshape,
    Slice,
    Value,
)

RNG = np.random.default_rng(0)
GEOMETRIES = {
    "3x3": {"kernel": (3, 3), "padding": (1, 1, 1, 1)},
    "1x1": {"kernel": (1, 1)},
    "stride": {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 1, 1, 0)},
    "dilated": {"kernel": (2, 3), "dilation": (2, 1), "padding": (2, 0, 0, 1)},
    "depthwise": {"kernel": (3, 3), "padding": (1, 1, 1, 1), "groups": 6},
    "grouped": {"kernel": (3, 3), "groups": 3},
    "whole": {"kernel": (9, 7)},
}


def integers(element, *shape):
    low, high = element.limits
    return RNG.integers(low, high + 1, shape).astype(element.value)


def sums_of(x, weight, bias, geometry):
    """The sums by their definition, in double precision."""
    top, left, bottom, right = geometry.get("padding", (0, 0, 0, 0))
    padded = F.pad(torch.from_numpy(x).double(), (left, right, top, bottom))
    kind = {"stride": geometry.get("stride", 1), "dilation": geometry.get("dilation", 1)}
    y = F.conv2d(padded, torch.from_numpy(weight).double(), groups=geometry.get("groups", 1), **kind)
    return y.numpy().astype(np.int64) + bias[:, None, None]


def convolution(name, kind=IntegerConv, out=6, **more):
    """Fields and arrays of a convolution of 6 channels."""
    geometry = dict(GEOMETRIES[name])
    kernel, groups = geometry.pop("kernel"), geometry.get("groups", 1)
    arrays = {
        "w": RNG.integers(-127, 128, (out, 6 // groups, *kernel)).astype(np.int8),
        "b": RNG.integers(-(2**20), 2**20, out).astype(np.int32),
    }
    if kind is IntegerConv:
        arrays |= {"m": RNG.integers(2**14, 2**15, out).astype(np.int32), "s": RNG.integers(20, 28, out).astype("i4")}
        more = {"multiplier": "m", "shift": "s", "low": 0, "high": 200} | more
    op = kind(("x",), "y", "w", "b", "layer", **geometry, **more)
    return op, arrays, GEOMETRIES[name]


@pytest.mark.parametrize("element", [Element.INT8, Element.UINT8])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_sums_and_what_follows_them(name, element):
    op, arrays, geometry = convolution(name)
    x = integers(element, 3, 6, 9, 7)
    expected = sums_of(x, arrays["w"], arrays["b"], geometry)
    expected = np.clip(brought(expected, arrays["m"][:, None, None], arrays["s"][:, None, None]), 0, 200)
    y = one_operation(op, {"x": x}, Value("y", *expected.shape[1:], Element.UINT8, 0.1), arrays)
    np.testing.assert_array_equal(y, expected)
    assert (expected > 0).mean() > 0
    assert expected.std() > 1


@pytest.mark.parametrize("name", ["3x3", "depthwise"])
def test_a_shortcut_is_added_in_the_units_of_the_output(name):
    op, arrays, geometry = convolution(name, addend=(20000, 15), low=-127, high=127)
    x, shortcut = integers(Element.UINT8, 2, 6, 9, 7), integers(Element.INT8, 2, 6, 9, 7)
    own = brought(
        sums_of(x, arrays["w"], arrays["b"], geometry), arrays["m"][:, None, None], arrays["s"][:, None, None]
    )
    expected = np.clip(own + ((shortcut.astype(int) * 20000 + (1 << 14)) >> 15), -127, 127)
    op = IntegerConv(**{**vars(op), "inputs": ("x", "r")})
    y = one_operation(op, {"x": x, "r": shortcut}, Value("y", *expected.shape[1:], Element.INT8, 0.1), arrays)
    np.testing.assert_array_equal(y, expected)


def test_sums_become_float32():
    op, arrays, geometry = convolution("3x3", IntegerConvToFloat, scale="scale")
    arrays["scale"] = RNG.random(6).astype(np.float32)
    x = integers(Element.INT8, 2, 6, 9, 7)
    expected = sums_of(x, arrays["w"], arrays["b"], geometry).astype(np.float32) * arrays["scale"][:, None, None]
    np.testing.assert_array_equal(one_operation(op, {"x": x}, Value("y", *expected.shape[1:]), arrays), expected)


def test_long_sums_are_exact():
    """Of more terms than float32 could add."""
    x = np.full((1, 3000, 1, 1), 255, np.uint8)
    arrays = {"w": np.full((2, 3000, 1, 1), 127, np.int8), "scale": np.ones(2, np.float32)}
    arrays["w"][1, 0] = 126
    op = IntegerConvToFloat(("x",), "y", "w", "", "layer", scale="scale")
    y = one_operation(op, {"x": x}, Value("y", 2, 1, 1), arrays)
    expected = np.array([255 * 127 * 3000, 255 * 127 * 3000 - 255]).astype(np.float32)
    np.testing.assert_array_equal(y.ravel(), expected)


@pytest.mark.parametrize("element", [Element.INT8, Element.UINT8])
def test_to_integers_and_back(element):
    x = (RNG.standard_normal((2, 3, 4, 5)) * 40).astype(np.float32)
    x[0, 0, 0, :3] = 0.125, 0.375, 1e9  # halves of a unit go to even ones
    y = one_operation(Quantize(("x",), "y"), {"x": x}, Value("y", 3, 4, 5, element, 0.25))
    assert y[0, 0, 0, :3].tolist() == [0, 2, element.limits[1]]
    np.testing.assert_array_equal(y, np.clip(np.rint(x * 4), *element.limits))
    none = one_operation(Quantize(("x",), "y"), {"x": np.full_like(x, np.nan)}, Value("y", 3, 4, 5, element, 0.25))
    assert not none.any()
    back = one_operation(Dequantize(("x",), "y"), {"x": y}, Value("y", 3, 4, 5), scale=0.25)
    np.testing.assert_array_equal(back, y.astype(np.float32) * 0.25)


def test_sums_of_two_maps():
    a, b = integers(Element.INT8, 2, 4, 5, 5), integers(Element.UINT8, 2, 4, 1, 1)
    op = IntegerAdd(("x", "b"), "y", (1 << 14, 30000), (14, 17), -100, 127)
    y = one_operation(op, {"x": a, "b": b}, Value("y", 4, 5, 5, Element.INT8, 0.1))
    np.testing.assert_array_equal(y, np.clip(a + ((b.astype(int) * 30000 + (1 << 16)) >> 17), -100, 127))


@pytest.mark.parametrize("element", [Element.INT8, Element.UINT8])
def test_tables(element):
    x = integers(element, 2, 4, 8, 8)
    table = integers(Element.UINT8, 256)
    y = one_operation(Lookup(("x",), "y", "t"), {"x": x}, Value("y", 4, 8, 8, Element.UINT8, 0.1), {"t": table})
    first = {"int8": -128, "uint8": 0}[element]
    np.testing.assert_array_equal(y, table[x.astype(int) - first])


def test_means_of_cells():
    x = integers(Element.UINT8, 2, 4, 7, 9)
    op = IntegerMean(("x",), "y", (2, 4))
    y = one_operation(op, {"x": x}, Value("y", 4, 2, 4), scale=0.1)
    expected = F.adaptive_avg_pool2d(torch.from_numpy(x).double() * 0.1, (2, 4)).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-6)


MOVES = {
    "concat": (Concat(("x", "x"), "y"), lambda x: torch.cat([x, x], 1)),
    "slice": (Slice(("x",), "y", -1), lambda x: F.pad(x, (0, 0, 0, 0, 1, 0))[:, :4]),
    "pick": (Pick(("x",), "y", (2, 0, 3)), lambda x: x[:, [2, 0, 3]]),
    "reshape": (Reshape(("x",), "y"), lambda x: x.reshape(2, 2, 12, 8)),
    "pad": (Pad(("x",), "y", (1, -1, 0, 2)), lambda x: F.pad(x, (-1, 2, 1, 0))),
    "reflect": (Pad(("x",), "y", (1, 0, 2, 1), "reflect"), lambda x: F.pad(x, (0, 1, 1, 2), "reflect")),
    "replicate": (Pad(("x",), "y", (1, 0, 2, 1), "replicate"), lambda x: F.pad(x, (0, 1, 1, 2), "replicate")),
    "circular": (Pad(("x",), "y", (1, 0, 2, 1), "circular"), lambda x: F.pad(x, (0, 1, 1, 2), "circular")),
    "shuffle": (PixelShuffle(("x",), "y", 2), lambda x: F.pixel_shuffle(x, 2)),
    "unshuffle": (PixelUnshuffle(("x",), "y", 2), lambda x: F.pixel_unshuffle(x, 2)),
    "maximum": (Pool(("x",), "y", "max", (3, 2), (2, 2), (1, 0)), lambda x: F.max_pool2d(x, (3, 2), 2, (1, 0))),
    "ceil": (Pool(("x",), "y", "max", (3, 3), (2, 2), ceil=True), lambda x: F.max_pool2d(x, 3, 2, 0, ceil_mode=True)),
    "dilated": (
        Pool(("x",), "y", "max", (2, 2), (1, 2), dilation=(2, 1)),
        lambda x: F.max_pool2d(x, 2, (1, 2), dilation=(2, 1)),
    ),
    "subsample": (Pool(("x",), "y", "max", (1, 1), (2, 2)), lambda x: x[:, :, ::2, ::2]),
}


@pytest.mark.parametrize("element", [Element.INT8, Element.UINT8])
@pytest.mark.parametrize("name", MOVES)
def test_what_moves_elements(name, element):
    op, definition = MOVES[name]
    x = integers(element, 2, 4, 6, 8)
    expected = definition(torch.from_numpy(x).double()).numpy()
    y = one_operation(op, {"x": x}, Value("y", *expected.shape[1:], element, 0.5), scale=0.5)
    np.testing.assert_array_equal(y, expected)
    assert y.dtype == x.dtype
