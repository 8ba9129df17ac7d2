"""Networks of one's own: a checkpoint holds no code, so commands are told which model it is of."""

import json

import pytest
import torch
from tests.photographs import write_photographs

import convgate
from convgate.cli import main
from convgate.models import create

MODEL = """
from torch import nn

def small(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3),
    )
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("own")
    (home / "mynets.py").write_text(MODEL)
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    network = convgate.gate(create(f"{home}/mynets.py:small", width=24), convgate.DualGating(init="paper"), x).eval()
    network.preparation = convgate.Preparation((16, 16), 18)
    convgate.save(network, home / "net.safetensors")
    write_photographs(home / "photos", 6)
    return home


def test_each_command_that_loads_one_takes_its_architecture(home, tmp_path, capsys):
    source, photos = str(home / "net.safetensors"), ["--images", str(home / "photos")]
    own = ["--architecture", f"{home}/mynets.py:small", "--model-option", "width=24"]
    compiled, calibrated = (["compile", source, "-o", str(tmp_path / "a.cgm")], ["calibrate", source, *photos])
    calibrated += ["--budget", "0.9", "-o", str(tmp_path / "b.safetensors"), "--json"]
    for command in (compiled, calibrated):
        assert main(command) == 2
        assert "--architecture package.module:function" in capsys.readouterr().err
        assert main([*command, *own]) == 0
    told = capsys.readouterr().out
    assert json.loads(told[told.index("{") :])["macs_ratio"] == pytest.approx(0.9, rel=0.05)
    assert convgate.engine.load(tmp_path / "a.cgm").program.gates


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compile", "net.safetensors", "-o", "a.cgm", "--model-option", "width=24"], "give that, too"),
        (["compile", "net.cgm", "-o", "a.cgm", "--architecture", "mynets.py:small"], "holds its own network"),
        (["compile", "net.cgm", "-o", "net.cgm"], "is the network itself"),
        (["compile", "net.cgm", "-o", "a.txt"], "ends in .cgm"),
        (["calibrate", "net.cgm", "--images", "photos", "--budget", "0.9", "-o", "a.cgm"], "give the checkpoint"),
        (["calibrate", "net.cgm", "--images", "photos", "--budget", "0.9", "-o", "a.cgm", "--threads", "0"], "--mill"),
    ],
)
def test_mistakes(home, arguments, says, capsys, monkeypatch):
    monkeypatch.chdir(home)
    convgate.compile(convgate.load("net.safetensors", create("mynets.py:small", width=24))).save("net.cgm")
    before = (home / "net.cgm").read_bytes()
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
    assert (home / "net.cgm").read_bytes() == before
    assert not (home / "a.cgm").exists()
