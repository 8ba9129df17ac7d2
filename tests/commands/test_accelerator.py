"""`convgate hardware rtl` and `verify`."""

import json

import numpy as np
import pytest
from tests.hardware.rtl.layers import random_program

import convgate.hardware.rtl
import convgate.hardware.rtl.synth
from convgate.cli import main
from convgate.engine import Engine
from convgate.hardware import accelerator
from convgate.hardware.area import WITHOUT, Area, area_of
from convgate.hardware.energy import ACTIONS
from convgate.hardware.report import CAUSES
from convgate.hardware.rtl import counters
from convgate.hardware.rtl.sources import sources
from convgate.hardware.rtl.verify import Found, Verified
from convgate.hardware.traffic import TENSORS


def test_rtl_writes_the_sources(tmp_path, capsys):
    assert main(["hardware", "rtl", "-o", str(tmp_path), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert len(files) == len(sources()) + 1
    assert "module cg_top" in (tmp_path / "cg_top.sv").read_text()


@pytest.mark.parametrize("as_json", [False, True])
def test_what_synthesis_counts_is_shown_and_kept(tmp_path, capsys, monkeypatch, as_json):
    counted = {"with all": Area(1100, 50, 4, 64, 8), WITHOUT: Area(1000, 50, 4, 64, 0)}
    monkeypatch.setattr(convgate.hardware.rtl.synth, "areas", lambda machine, seconds: iter(counted.items()))
    monkeypatch.setattr(convgate.hardware.rtl.synth, "tool", lambda: "a tool")
    command = ["hardware", "rtl", "-o", str(tmp_path), "--synth", "--set", "rows=4", "--set", "columns=2"]
    assert main([*command, *(["--json"] if as_json else [])]) == 0
    assert ('"luts": 1100' if as_json else "1,100") in capsys.readouterr().out
    found = area_of(tmp_path / "area.json", 4, 2)
    assert (found.areas, found.tool) == (counted, "a tool")
    assert (found.accelerator, found.built["input_buffer_kib"]) == ("dgnet-ultra96", 128)


def test_every_counter_has_a_field_of_its_name_in_the_simulator():
    fields = {"cycles": CAUSES, "words": TENSORS, "actions": tuple(ACTIONS)}
    assert len(counters()) == len(set(counters()))
    for group, name in counters():
        assert name in fields[group]


@pytest.mark.parametrize("wrong", [0, 3])
def test_verify_says_what_it_compared(tmp_path, monkeypatch, capsys, wrong):
    program = random_program(np.random.default_rng(0))
    Engine(program).save(tmp_path / "net.cgm")
    given = []

    def verify(program, images, machine, *, resting):
        given.append((images.shape, machine.rows, resting))
        layer = Found(0, "a", wrong, 100, 100, 30, {})
        return Verified(machine, len(images), ("b",), [layer], compared=16)

    monkeypatch.setattr(convgate.hardware.rtl, "verify", verify)
    command = ["hardware", "verify", str(tmp_path / "net.cgm"), "--set", "rows=4", "--resting", "20"]
    assert (main(command) == 0) == (not wrong)
    assert given == [((1, *program.value("images").shape), 4, 20)]
    out = capsys.readouterr().out
    assert "16 counters" in out
    assert "computed by the host, too: b" in out
    assert accelerator("dgnet-ultra96").rows == 16
