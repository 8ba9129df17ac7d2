"""Decisions at their limits, and masks as they lie over maps."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from tests.onnx_export.runtime import run_file

from convgate.engine.engine import Engine
from convgate.engine.program import Conv, Decide, FillClosed, Gate, Mask, Program, Value
from convgate.onnx_export import export_onnx


def masked(size, cells, reach=(0, 0), strict=False):
    """A program that masks a map by a gate of tiles, whose logits are its second input."""
    values = (Value("x", 2, *size), Value("logits", 1, *cells), Value("y", 2, *size))
    operations = (Decide(("logits",), "g", "zero", strict=strict), Mask(("x",), "y", "g", reach))
    gates = (Gate("g", "spatial", (1, *cells)),)
    return Program(values, gates, operations, ("x", "logits"), ("y",), {"zero": np.zeros((1, *cells), np.float32)})


@pytest.mark.parametrize("strict", [False, True])
def test_zero_and_what_is_not_a_number(strict, tmp_path):
    export_onnx(masked((1, 5), (1, 5), strict=strict), tmp_path / "net.onnx", masks=True)
    logits = np.array([-1e-30, -0.0, 0.0, 1e-30, np.nan], np.float32).reshape(1, 1, 1, 5)
    found = run_file(tmp_path / "net.onnx", np.ones((1, 2, 1, 5), np.float32), logits)
    open_ = [0, 0, 0, 1, 1] if strict else [0, 1, 1, 1, 1]
    np.testing.assert_array_equal(found["mask.g"].ravel(), open_)
    np.testing.assert_array_equal(found["output"], np.tile(found["mask.g"], (1, 2, 1, 1)))


@pytest.mark.parametrize("reach", [(0, 0), (1, 2), (4, 0)])
@pytest.mark.parametrize("cells", [(1, 1), (1, 4), (3, 3), (7, 5), (9, 11)])
def test_tiles_over_positions(cells, reach, tmp_path):
    program = masked((9, 11), cells, reach)
    rng = np.random.default_rng(0)
    x, logits = rng.standard_normal((3, 2, 9, 11)), rng.standard_normal((3, 1, *cells)) - 0.7
    images = x.astype(np.float32), logits.astype(np.float32)
    export_onnx(program, tmp_path / "net.onnx")
    wanted = Engine(program, threads=1).run(*images).outputs[0]
    np.testing.assert_array_equal(run_file(tmp_path / "net.onnx", *images)["output"], wanted)
    assert cells == (1, 1) or 0 < (wanted == 0).mean() < 1


def test_closed_tiles_are_filled(tmp_path):
    program = masked((6, 6), (2, 3))
    values = (*program.values, Value("cells", 2, 2, 3), Value("z", 2, 6, 6))
    operations = (*program.operations, FillClosed(("y", "cells"), "z", "g"))
    filled = Program(
        values, program.gates, operations, ("x", "logits", "cells"), ("z",), program.arrays
    )  # fmt: skip
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((2, *shape)).astype(np.float32) for shape in ((2, 6, 6), (1, 2, 3), (2, 2, 3))]
    export_onnx(filled, tmp_path / "net.onnx")
    x, logits, cells = images
    opened, cells = (np.repeat(np.repeat(a, 3, 2), 2, 3) for a in (logits >= 0, cells))
    np.testing.assert_allclose(run_file(tmp_path / "net.onnx", *images)["output"], np.where(opened, x, cells))


@pytest.mark.parametrize("masks_first", [True, False])
def test_closed_inputs_count_as_zeros_whatever_they_hold(masks_first, tmp_path):
    """They are multiplied only where the program does not say that they hold zeros."""
    values = [Value("x", 4, 3, 3), Value("logits", 2, 1, 1), Value("m", 4, 3, 3), Value("y", 5, 3, 3)]
    weight = np.random.default_rng(0).standard_normal((5, 4, 1, 1)).astype(np.float32)
    arrays = {"zero": np.zeros((2, 1, 1), np.float32), "w": weight}
    read = "m" if masks_first else "x"
    operations = (
        Decide(("logits",), "g", "zero"),
        Mask(("x",), "m", "g"),
        Conv((read,), "y", "w", "", "y", in_channels="g"),
    )
    gates = (Gate("g", "channel", (2, 1, 1), 2),)
    program = Program(tuple(values), gates, operations, ("x", "logits"), ("y",), arrays, ("y",))
    export_onnx(program, tmp_path / "net.onnx")
    x = np.random.default_rng(1).standard_normal((1, 4, 3, 3)).astype(np.float32)
    logits = np.array([1, -1], np.float32).reshape(1, 2, 1, 1)
    found = run_file(tmp_path / "net.onnx", x, logits)["output"]
    wanted = np.einsum("oi,nihw->nohw", weight[:, :2, 0, 0], x[:, :2])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)

    import onnx

    read_by = [node.input[0] for node in onnx.load(tmp_path / "net.onnx").graph.node if node.op_type == "Conv"]
    assert read_by == (["m.masked"] if masks_first else ["x.masked"])
    products = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node].count("Mul")
    assert products == (1 if masks_first else 2)  # the mask's own; what nothing reads is written, too
