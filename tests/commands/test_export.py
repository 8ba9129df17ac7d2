"""`convgate export`: from a .cgm file to an ONNX file."""

import json
import subprocess
import sys

import numpy as np
import pytest

import convgate
from convgate.cli import main

onnx = pytest.importorskip("onnx")


@pytest.fixture
def network(small, tmp_path):
    engine = convgate.compile(small[0], threads=1)
    engine.save(tmp_path / "net.cgm")
    return engine


def test_a_file_is_written_and_described(network, tmp_path, capsys):
    assert main(["export", str(tmp_path / "net.cgm"), str(tmp_path / "net.onnx")]) == 0
    text = capsys.readouterr().out
    assert "net.onnx: " in text
    assert "float32; it takes images of 3 x 16 x 16" in text
    assert [output.name for output in onnx.load(tmp_path / "net.onnx").graph.output] == ["output"]


def test_masks_and_json(network, tmp_path, capsys):
    out = tmp_path / "net.onnx"
    assert main(["export", str(tmp_path / "net.cgm"), str(out), "--masks", "--json"]) == 0
    gates = network.program.gates
    wanted = {"file": str(out), "bytes": out.stat().st_size, "precision": "float32", "gates": len(gates)}
    assert json.loads(capsys.readouterr().out) == wanted
    outputs = [output.name for output in onnx.load(out).graph.output]
    assert outputs == ["output", *(f"mask.{gate.name}" for gate in gates)]


def test_it_computes_what_the_engine_does(network, small, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    assert main(["export", str(tmp_path / "net.cgm"), str(tmp_path / "net.onnx")]) == 0
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": small[1].numpy()})
    np.testing.assert_allclose(found, network(small[1].numpy()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "target", "named"),
    [
        ("none.cgm", "net.onnx", "none.cgm"),
        ("net.cgm", "", "is a folder"),
        ("net.cgm", "net.cgm", "ends in .onnx"),
        ("text.cgm", "net.onnx", "text.cgm"),
    ],
)
def test_mistakes(source, target, named, network, tmp_path, capsys):
    (tmp_path / "text.cgm").write_text("a text")
    assert main(["export", str(tmp_path / source), str(tmp_path / target)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("convgate export: ")
    assert named in captured.err
    assert not (tmp_path / "net.onnx").exists()


def test_it_needs_no_torch(network, tmp_path):
    script = f"""
import sys
sys.modules["torch"] = None
from convgate.cli import main
sys.exit(main(["export", {str(tmp_path / "net.cgm")!r}, {str(tmp_path / "net.onnx")!r}]))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "net.onnx").exists()
