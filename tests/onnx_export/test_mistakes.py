"""What cannot be exported is said in one error, and leaves no file behind."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import convgate
from convgate.engine.engine import Engine
from convgate.engine.program import Activate, Activation, Conv, Program, Value
from convgate.errors import InputError, LoweringError, ProgramError
from convgate.onnx_export import export_onnx

onnx = pytest.importorskip("onnx")


def small(**changes):
    values = (Value("x", 3, 4, 4), Value("y", 2, 4, 4))
    arrays = {"w": np.ones((2, 3, 1, 1), np.float32)}
    how = {"outputs": ("y",), "layers": ("y",)} | changes
    return Program(values, (), (Conv(("x",), "y", "w", "", "y"),), ("x",), arrays=arrays, **how)


class Sorting(nn.Module):
    """Two steps without a native form."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(torch.flip(x, (2,))).cumsum(3)


def test_steps_of_pytorch_are_named(tmp_path):
    engine = convgate.compile(Sorting().eval(), torch.zeros(1, 3, 4, 4), fallback="torch", threads=1)
    with pytest.raises(LoweringError, match=r"2 operation\(s\) have no form in ONNX: 'flip' .*'cumsum'"):
        export_onnx(engine, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["", "file/net.onnx"])
def test_paths_that_cannot_be_written(path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder"):
        export_onnx(small(), tmp_path / path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_other_things_than_engines(tmp_path):
    with pytest.raises(InputError, match="takes an engine or a program, not a Conv2d"):
        export_onnx(nn.Conv2d(3, 4, 1), tmp_path / "net.onnx")


def test_programs_that_do_not_hold_together(tmp_path):
    with pytest.raises(ProgramError):
        export_onnx(small(outputs=("z",)), tmp_path / "net.onnx")


def test_a_file_is_there_complete_or_not_at_all(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise onnx.checker.ValidationError("no")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    (tmp_path / "net.onnx").write_text("what was there")
    with pytest.raises(LoweringError, match="bug of convgate's: no"):
        export_onnx(small(), tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_text() == "what was there"
    assert len(list(tmp_path.iterdir())) == 1


def test_networks_that_a_file_does_not_hold(tmp_path, monkeypatch):
    from convgate.onnx_export import export

    monkeypatch.setattr(export, "_MOST", 100)
    with pytest.raises(InputError, match="holds 2 GB"):
        export_onnx(small(), tmp_path / "net.onnx")


def test_names_that_are_taken(tmp_path):
    """Values may be called as the file's inputs and outputs are, or as gates."""
    values = (Value("output", 3, 2, 2), Value("images", 3, 2, 2), Value("mask.g", 3, 2, 2))
    relu, double = Activation("relu"), Activation("leaky_relu", (2.0,))
    operations = (Activate(("output",), "images", double), Activate(("images",), "mask.g", relu))
    program = Program(values, (), operations, ("output",), ("mask.g", "mask.g", "output"), {})
    export_onnx(program, tmp_path / "net.onnx")
    pytest.importorskip("onnxruntime")
    from tests.onnx_export.runtime import run_file

    x = np.random.default_rng(0).standard_normal((2, 3, 2, 2)).astype(np.float32)
    found = run_file(tmp_path / "net.onnx", x)
    assert list(found) == ["output_0", "output_1", "output_2"]
    for array, wanted in zip(found.values(), Engine(program, threads=1).run(x).outputs, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_without_onnx_the_extra_is_named(tmp_path):
    script = f"""
import sys
sys.modules["onnx"] = None
import torch, convgate
engine = convgate.compile(torch.nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 2, 2), threads=1)
try:
    convgate.export_onnx(engine, {str(tmp_path / "net.onnx")!r})
except convgate.ConvgateError as error:
    print(type(error).__name__, error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout.startswith("MissingDependencyError"), run.stderr
    assert "pip install 'convgate[onnx]'" in run.stdout
    assert not list(tmp_path.iterdir())
