"""What the README shows works as written."""

import re
from pathlib import Path

import pytest
import torch

from convgate.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_python_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # The example's network is random, and with few images not every random network can be calibrated so closely.
    torch.manual_seed(0)
    scope: dict = {}
    first, *others = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(compile(first, "README.md", "exec"), scope)
    # What the comments of the example promise.
    assert scope["cost"].macs.shape == (8,)
    net, images = scope["net"], scope["images"]
    assert float(net.cost(net.decide(images)[1]).ratio.mean()) == pytest.approx(0.5, rel=0.005)
    spent = net.cost(net.decide(images)[1]).macs.tolist()
    with torch.no_grad():
        torch.testing.assert_close(scope["same"], scope["model"].eval()(images), rtol=1e-4, atol=1e-4)
    assert (tmp_path / "half.safetensors").is_file()
    assert "layer1.0" in capsys.readouterr().out
    for code in others:
        exec(compile(code, "README.md", "exec"), scope)
    assert (tmp_path / "half.cgm").is_file()
    assert scope["run"].macs.tolist() == spent
    scope["loss"].backward()
    assert all(p.grad is not None for p in net.gate_parameters())


def test_the_make_targets_that_it_names_exist():
    targets = re.findall(r"^make (\w+)", TEXT, flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_the_convgate_commands_that_it_names_exist(capsys):
    named = set(re.findall(r"`convgate (\w+)", TEXT))
    assert named
    for name in named:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
    assert named <= {module.__name__.rpartition(".")[2] for module in COMMANDS}


def test_the_folders_that_it_lists_are_those_that_exist():
    listed = set(re.findall(r"^  (\w+)/ ", TEXT, flags=re.MULTILINE))
    folders = {p.name for p in (ROOT / "src" / "convgate").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert listed == folders
