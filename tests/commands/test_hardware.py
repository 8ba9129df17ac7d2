"""`convgate hardware`, from recorded decisions to what a machine makes of them."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tests.hardware.programs import engine_of, images_of

import convgate
from convgate.cli import main
from convgate.commands.accelerator import _as_data, _table
from convgate.engine import Engine
from convgate.hardware import accelerator, load_trace
from convgate.hardware.area import WITHOUT, Area, ArrayArea, write_areas
from convgate.hardware.rtl.verify import Verified
from convgate.models import create
from convgate.preparation import Preparation


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(program, trace) of a small network and random images."""
    folder = tmp_path_factory.mktemp("hardware")
    engine, _ = engine_of("dual")
    engine.save(folder / "net.cgm")
    np.save(folder / "images.npy", images_of(engine.program, 5))
    command = ["hardware", "record", str(folder / "net.cgm"), "--file", str(folder / "images.npy"), "--images", "4"]
    assert main([*command, "--out", str(folder / "net.cgt")]) == 0
    return str(folder / "net.cgm"), str(folder / "net.cgt")


def test_simulate_prints_what_was_found_and_what_is_assumed(recorded, capsys, tmp_path):
    assert main(["hardware", "simulate", *recorded, "--layers", "--page", str(tmp_path / "page.html")]) == 0
    assert "<title>net on dgnet-ultra96" in (tmp_path / "page.html").read_text()
    text = capsys.readouterr().out
    assert "4 images on dgnet-ultra96" in text
    assert "speed-up:" in text
    assert "gate heads" in text
    assert "assumed: frequency_mhz 200" in text
    assert "layer3.0.conv2" in text


def test_what_was_changed_is_printed(recorded, capsys, tmp_path):
    page = tmp_path / "page.html"
    assert main(["hardware", "simulate", *recorded, "--set", "rows=4", "--page", str(page)]) == 0
    text = capsys.readouterr().out
    assert "on dgnet-ultra96 with rows=4 (4x16" in text
    assert "\nchanged: rows=4\nassumed: frequency_mhz 200" in text
    assert "net on dgnet-ultra96 with rows=4</h1>" in page.read_text()


def test_a_machine_of_ones_own_says_which_fields_are_defaults(recorded, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\nsource: our data sheet\nrows: 4\ncolumns: 4\n")
    assert main(["hardware", "simulate", *recorded, "--accelerator", str(tmp_path / "mine.yaml")]) == 0
    text = capsys.readouterr().out
    assert "machine: mine: our data sheet\nassumed: " in text
    assert "input_buffer_kib 128" in text


def test_the_page_shows_areas_of_the_same_array_alone(recorded, capsys, tmp_path):
    counted = {WITHOUT: Area(1234, 50, 4, 64, 0)}
    write_areas(tmp_path / "area.json", [ArrayArea(16, 16, counted, "a tool")])
    command = ["hardware", "simulate", *recorded, "--area", str(tmp_path / "area.json")]
    assert main([*command, "--page", str(tmp_path / "page.html")]) == 0
    assert "<td>1,234</td>" in (tmp_path / "page.html").read_text()
    assert main([*command, "--page", str(tmp_path / "page.html"), "--set", "rows=8"]) == 2
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "arrays 16x16, not 8x16" in told
    assert "give --page" in told


def test_simulate_prints_json_and_takes_fields(recorded, capsys):
    assert main(["hardware", "simulate", *recorded, "--set", "columns=32", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["images"] == 4
    assert (data["accelerator"], data["changed"]) == ("dgnet-ultra96", {"columns": 32})
    assert (data["machine"]["columns"], data["machine"]["rows"], data["machine"]["packed"]) == (32, 16, False)
    assert data["gated"]["cycles"] == pytest.approx(sum(data["gated"]["cycles_by_cause"].values()))
    assert [row["group"] for row in data["groups"]] == [1, 2, 4, 8, 16, 32]
    assert data["groups"][0]["macs"] == data["gated"]["macs"]
    assert main(["hardware", "simulate", *recorded, "--set", "name=mine"]) == 0
    assert "4 images on mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["record", "{0}", "--out", "x.cgt"], "without images"),
        (["record", "{0}", "--file", "{0}", "--out", "x.cgt"], "not a .npy"),
        (["record", "{0}", "--images", "0", "--out", "x.cgt"], "at least 1"),
        (["record", "{0}", "--file", "nosuch.npy", "--out", "x.cgt"], "there is no file nosuch.npy"),
        (["record", "{0}", "--file", "{0}", "--out", "."], ". is a folder"),
        (["record", "{0}", "--file", "x.npy", "--photos", "x.png", "--out", "x.cgt"], "give one of them"),
        (["record", "{0}", "--file", "x.npy", "--data", "images", "--out", "x.cgt"], "about the folder of a run"),
        (["record", "{0}", "--file", "x.npy", "--program", "x.cgm", "--out", "x.cgt"], "about the folder of a run"),
        (["record", "runs/none", "--data", "images", "--out", "x.cgt"], "no file and no folder runs/none"),
        (["record", ".", "--file", "x.npy", "--out", "x.cgt"], "images for a .cgm file"),
        (["record", ".", "--photos", "x.png", "--out", "x.cgt"], "images for a .cgm file"),
        (["simulate", "{1}", "{1}"], "no .cgm file"),
        (["simulate", "nosuch.cgm", "{1}", "--page", "."], ". is a folder"),
        (["sweep", "nosuch.cgm", "nosuch.cgt", "--out", "."], ". is a folder"),
        (["verify", "{0}", "--images", "0"], "--images is 0"),
        (["verify", "{0}", "--resting", "100"], "--resting is 100; it is from 0 to 99"),
        (["simulate", "{0}", "{0}"], "not a trace"),
        (["simulate", "{0}", "{1}", "--accelerator", "nonsense"], "known are"),
        (["simulate", "{0}", "{1}", "--set", "nonsense=3"], "no field nonsense"),
    ],
)
def test_mistakes_are_explained(recorded, arguments, match, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["hardware", *(part.format(*recorded) for part in arguments)]) == 2
    assert match in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_photographs_are_prepared_as_the_file_says(tmp_path, capsys):
    pil = pytest.importorskip("PIL.Image")
    engine, _ = engine_of("dual")
    preparation = Preparation(size=(16, 16), resize=16, mean=(0.5,) * 3, std=(0.25,) * 3)
    Engine(dataclasses.replace(engine.program, preparation=preparation), threads=1).save(tmp_path / "net.cgm")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        pil.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    command = ["hardware", "record", str(tmp_path / "net.cgm"), "--photos", str(tmp_path / "photos")]
    assert main([*command, "--images", "2", "--out", str(tmp_path / "net.cgt")]) == 0
    assert "2 images" in capsys.readouterr().out
    assert main([*command, "--images", "2", "--out", str(tmp_path / "net.cgt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    read = preparation.read(sorted((tmp_path / "photos").iterdir())[:2])
    trace = load_trace(tmp_path / "net.cgt")
    for name, decision in engine.run(read).decisions.items():
        assert (trace.mask(name) == decision.mask).all()
    engine.save(tmp_path / "plain.cgm")
    command[2] = str(tmp_path / "plain.cgm")
    assert main([*command, "--out", str(tmp_path / "x.cgt")]) == 2
    assert "does not say how" in capsys.readouterr().err


def test_sweep_writes_rows(recorded, capsys, tmp_path):
    command = ["hardware", "sweep", *recorded, "--sides", "8,16", "--dram", "4", "--images", "2"]
    assert main([*command, "--out", str(tmp_path / "rows.csv")]) == 0
    text = capsys.readouterr().out
    assert "2 images" in text
    assert "machine: dgnet-ultra96: DGNet" in text
    assert "\nassumed: frequency_mhz 200" in text
    assert "\nenergy: timeloop" in text
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(lines) == 3
    assert "dgnet-ultra96" in lines[1]
    assert main([*command, "--set", "word_bits=16", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["rows"] for row in data["rows"]] == [8, 16]
    assert (data["accelerator"], data["changed"]) == ("dgnet-ultra96", {"word_bits": 16})
    assert main(["hardware", "sweep", *recorded, "--sides", "8,x"]) == 2
    assert "whole numbers" in capsys.readouterr().err
    assert main(["hardware", "sweep", *recorded, "--sides", "8,100000", "--out", str(tmp_path / "none.csv")]) == 2
    assert "100000x100000 weights" in capsys.readouterr().err
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize("tool", ["scalesim", "timeloop", "accelergy"])
def test_export_writes_files(recorded, tool, capsys, tmp_path):
    assert main(["hardware", "export", *recorded, "--format", tool, "--image", "3", "--out", str(tmp_path)]) == 0
    count = int(capsys.readouterr().out.split()[0])
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == count > 2
    command = ["hardware", "export", *recorded, "--format", tool, "--out", str(tmp_path / "again"), "--json"]
    assert main(command) == 0
    assert len(json.loads(capsys.readouterr().out)["files"]) == count


def test_export_leaves_nothing_of_an_earlier_one(recorded, capsys, tmp_path):
    command = ["hardware", "export", *recorded, "--format", "timeloop", "--out", str(tmp_path / "new" / "export")]
    assert main(command) == 0
    before = sorted((tmp_path / "new").rglob("*"))
    assert main([*command, "--image", "1"]) == 2
    assert "a folder with files in it" in capsys.readouterr().err
    assert sorted((tmp_path / "new").rglob("*")) == before


@pytest.fixture(scope="module")
def integers(tmp_path_factory):
    """The .cgm file of a small network of 8-bit integers, for images of 3 x 8 x 8."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    net = convgate.gate(create("cifar_resnet8", width=4).eval(), convgate.DualGating(), images).eval()
    path = tmp_path_factory.mktemp("integers") / "int8.cgm"
    convgate.quantize(net, [images], threads=1).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (np.zeros((0, 3, 8, 8), np.float32), "N >= 1"),
        (np.full((1, 3, 8, 8), np.nan, np.float32), "not finite"),
        (np.zeros((1, 3, 8, 8), np.uint8), "of uint8; it takes float32"),
        (np.zeros((1, 3, 9, 8), np.float32), "images of 9 x 8"),
    ],
    ids=["none", "not finite", "other type", "other size"],
)
def test_verify_refuses_what_it_would_not_verify(integers, images, match, tmp_path, capsys):
    np.save(tmp_path / "images.npy", images)
    assert main(["hardware", "verify", integers, "--file", str(tmp_path / "images.npy")]) == 2
    assert match in capsys.readouterr().err


def test_rtl_is_written_for_the_machine(tmp_path, capsys):
    command = ["hardware", "rtl", "-o", str(tmp_path / "rtl"), "--set", "rows=8", "--set", "columns=12"]
    assert main(command) == 0
    assert "the defaults of cg_top are those of dgnet-ultra96: ROWS 8, COLUMNS 12" in capsys.readouterr().out
    text = (tmp_path / "rtl" / "cg_top.sv").read_text()
    assert "parameter int ROWS = 8," in text
    assert "parameter int COLUMNS = 12," in text
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["ROWS"] == 8


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--set", "timing=serial", "--set", "dataflow=os"], "dataflow is os, and has to be ws"),
        (["--accelerator", "tpu-256"], "rows is 256, and may be 255 at most"),
        (["--seconds", "-1"], "--seconds is -1; give a number above 0"),
        (["--seconds", "nan"], "--seconds is nan; give a number above 0"),
    ],
)
def test_rtl_that_there_is_not_is_not_written(options, match, tmp_path, capsys):
    assert main(["hardware", "rtl", "-o", str(tmp_path / "rtl"), *options]) == 2
    assert match in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_verify_refuses_words_that_the_rtl_does_not_have(integers, capsys):
    assert main(["hardware", "verify", integers, "--set", "word_bits=16"]) == 2
    assert "word_bits is 16, and has to be 8" in capsys.readouterr().err


@pytest.mark.parametrize(("burst", "left"), [(64, []), (32, ["bursts"])])
def test_verify_says_what_was_not_compared(burst, left):
    found = Verified(accelerator("dgnet-ultra96", dram_burst_bytes=burst), 1, ())
    assert _as_data(found)["counters_not_compared"] == left
    assert ("not compared: bursts, since the harness counts those of 64 bytes" in _table(found)) == bool(left)
