"""Windows, cells and transposed convolutions at the edges of what programs allow, against the engine."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from tests.onnx_export.runtime import run_file

from convgate.engine.engine import Engine
from convgate.engine.extents import size_of
from convgate.engine.precision import from_bits, to_bits
from convgate.engine.program import Conv, ConvTranspose, Element, Interpolate, Pool, PoolToGrid, Program, Value
from convgate.onnx_export import export_onnx


def assert_same(operation, path, size=(7, 9), channels=4, out=4, arrays=None, size_after=None):
    """One operation, from a map of that size."""
    arrays = arrays or {}
    before = Program((Value("x", channels, *size),), (), (), ("x",), ("x",), arrays)
    height, width = size_after or size_of(operation, before, [size])
    layers = ("y",) if hasattr(operation, "layer") else ()
    values = (Value("x", channels, *size), Value("y", out, height, width))
    program = Program(values, (), (operation,), ("x",), ("y",), arrays, layers)
    x = np.random.default_rng(0).standard_normal((2, channels, *size)).astype(np.float32)
    export_onnx(program, path)
    wanted = Engine(program, threads=1).run(x).outputs[0]
    np.testing.assert_allclose(run_file(path, x)["output"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [((3, 2), (2, 2), (1, 1)), ((2, 2), (3, 4), (0, 1))])
def test_windows(kind, count_padding, ceil, kernel, stride, padding, tmp_path):
    operation = Pool(("x",), "y", kind, kernel, stride, padding, (1, 1), count_padding, ceil)
    assert_same(operation, tmp_path / "net.onnx")


def test_dilated_windows(tmp_path):
    assert_same(Pool(("x",), "y", "max", (2, 3), (2, 1), (0, 0), (3, 2)), tmp_path / "net.onnx")


@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("grid", [(1, 1), (7, 3), (2, 2), (5, 9), (10, 4)])
def test_cells(grid, maximum, tmp_path):
    assert_same(PoolToGrid(("x",), "y", maximum, grid), tmp_path / "net.onnx")


@pytest.mark.parametrize("bias", ["b", ""])
@pytest.mark.parametrize("padding", [(0, 0), (1, 0), (2, 2)])
@pytest.mark.parametrize(("stride", "dilation", "more"), [((2, 3), (1, 1), (1, 2)), ((1, 1), (3, 2), (2, 1))])
def test_transposed_convolutions(bias, padding, stride, dilation, more, tmp_path):
    rng = np.random.default_rng(1)
    arrays = {"w": rng.standard_normal((4, 3, 3, 3)), "b": rng.standard_normal(6)}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items() if name != "b" or bias}
    operation = ConvTranspose(("x",), "y", "w", bias, "y", stride, padding, more, dilation, groups=2)
    assert_same(operation, tmp_path / "net.onnx", out=6, arrays=arrays)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear"])
@pytest.mark.parametrize("how", [{"size": (10, 5)}, {"scales": (2.0, 1.0)}, {"scales": (1.5, 0.7)}])
def test_other_sizes(mode, how, tmp_path):
    assert_same(Interpolate(("x",), "y", mode, **how), tmp_path / "net.onnx")


def test_other_sizes_with_aligned_corners(tmp_path):
    assert_same(Interpolate(("x",), "y", "bilinear", True, size=(10, 5)), tmp_path / "net.onnx")


def test_weights_that_are_rounded_when_they_are_read(tmp_path):
    """In bfloat16, such as others read in float32."""
    values = (Value("x", 3, 2, 2, Element.BFLOAT16), Value("y", 5, 2, 2))
    weight = np.random.default_rng(0).standard_normal((5, 3, 1, 1)).astype(np.float32)
    program = Program(values, (), (Conv(("x",), "y", "w", "", "y"),), ("x",), ("y",), {"w": weight}, ("y",))
    export_onnx(program, tmp_path / "net.onnx")
    x = np.float32([1, 2, -1] * 4).reshape(1, 2, 2, 3).transpose(0, 3, 1, 2)
    wanted = np.einsum("oi,nihw->nohw", from_bits(to_bits(weight))[:, :, 0, 0], x)
    found = run_file(tmp_path / "net.onnx", np.ascontiguousarray(x))["output"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert np.abs(found - np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x)).max() > 1e-4
