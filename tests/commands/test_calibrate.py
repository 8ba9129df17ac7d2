"""`convgate calibrate`: from a checkpoint and photographs to a checkpoint at a budget."""

import json

import pytest
import torch
from tests.photographs import write_photographs

import convgate
from convgate.cli import main
from convgate.models import create


@pytest.fixture(scope="module")
def folder(tmp_path_factory, randomise):
    folder = tmp_path_factory.mktemp("calibrate")
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    network = convgate.gate(randomise(create("cifar_resnet8", width=4), x), convgate.DualGating(init="paper"), x).eval()
    network.preparation = convgate.Preparation((16, 16), 18)
    convgate.save(network, folder / "net.safetensors")
    write_photographs(folder / "photos", 6)
    return folder


def test_to_a_share(folder, capsys):
    out = folder / "out.safetensors"
    command = [
        "calibrate",
        str(folder),
        "--images",
        str(folder / "photos"),
        "--budget",
        "0.9",
        "-o",
        str(out),
        "--json",
    ]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["macs_ratio"] == pytest.approx(0.9, rel=5e-3)
    assert told["milliseconds"] is None
    assert convgate.load(out).preparation is not None


def test_to_milliseconds_that_no_engine_reaches(folder, capsys):
    command = ["calibrate", str(folder), "--images", str(folder / "photos"), "-o", str(folder / "fast.cgm")]
    assert main([*command, "--milliseconds", "1e-6", "--threads", "1"]) == 2
    assert "every gate closed" in capsys.readouterr().err
    assert not (folder / "fast.cgm").exists()


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_to_a_file_in_a_precision(folder, capsys, precision):
    out = folder / f"{precision}.cgm"
    command = ["calibrate", str(folder), "--images", str(folder / "photos"), "-o", str(out)]
    assert main([*command, "--budget", "0.9", "--precision", precision]) == 0
    assert convgate.engine.load(out).precision == precision


def test_a_detector_to_a_file_of_integers(folder, tmp_path, capsys):
    model = create("point_detector", num_classes=4, width=8, tower=1).eval()
    net = convgate.gate(model, convgate.DualGating(init="paper", tile=2), [torch.zeros(3, 64, 96)]).eval()
    convgate.save(net, tmp_path / "net.safetensors")
    images = ["--images", str(folder / "photos")]
    out = tmp_path / "calibrated.cgm"
    command = ["calibrate", str(tmp_path), *images, "-o", str(out), "--budget", "0.9", "--precision", "int8", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["macs_ratio"] == pytest.approx(0.9, rel=5e-3)
    assert main(["compile", str(tmp_path), *images, "-o", str(tmp_path / "whole.cgm"), "--precision", "int8"]) == 0
    assert "run_on" in capsys.readouterr().out
    assert {convgate.engine.load(file).precision for file in (out, tmp_path / "whole.cgm")} == {"int8"}


def test_to_milliseconds_of_integers(folder, capsys):
    command = ["calibrate", str(folder), "--images", str(folder / "photos"), "-o", str(folder / "timed.cgm"), "--json"]
    command += ["--threads", "1", "--precision", "int8", "--latency", str(folder / "int8.json")]
    assert main([*command, "--milliseconds", "1e-6"]) == 2
    assert "every gate closed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--budget", "0.5", "--threads", "1"], "--milliseconds"),
        (["--budget", "0.5", "--most", "0"], "--most 0"),
        (["--budget", "0.5", "--precision", "int8"], ".cgm"),
        (["--budget", "0.5", "-o", "net.onnx"], "net.onnx"),
        (["--budget", "2"], "share of the dense MACs"),
    ],
)
def test_mistakes(folder, arguments, named, capsys):
    command = ["calibrate", str(folder), "--images", str(folder / "photos"), "-o", str(folder / "no.safetensors")]
    assert main([*command, *arguments]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-o", "--latency"])
def test_a_file_that_cannot_be_written_is_told_of_before_anything_is_done(
    folder, tmp_path, capsys, monkeypatch, option
):
    monkeypatch.setattr("convgate.calibration.calibrate", lambda *a, **k: pytest.fail("it is calibrated"))
    (tmp_path / "file.safetensors").mkdir()
    named = {"-o": tmp_path / "out.safetensors", "--latency": tmp_path / "latency.json"}
    named[option] = tmp_path / "file.safetensors"
    command = ["calibrate", str(folder), "--images", str(folder / "photos"), "--milliseconds", "5", "--threads", "1"]
    assert main([*command, *(str(word) for pair in named.items() for word in pair)]) == 2
    assert "is a folder; name the file" in capsys.readouterr().err
