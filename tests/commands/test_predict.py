"""`convgate compile` and `convgate predict`: from a checkpoint to names of what is in photographs, without PyTorch."""

import json
import subprocess
import sys

import pytest
import torch
from tests.photographs import write_photographs

import convgate
from convgate.cli import main
from convgate.models import create

NAMES = tuple(f"class {letter}" for letter in "abcdefghij")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("predict")
    network = convgate.gate(create("cifar_resnet8", width=4), convgate.DualGating(), torch.zeros(1, 3, 16, 16)).eval()
    convgate.save(network, folder / "bare.safetensors")
    network.preparation = convgate.Preparation((16, 16), 18, classes=NAMES)
    convgate.save(network, folder / "net.safetensors")
    write_photographs(folder / "photos", 2)
    assert main(["compile", str(folder), "-o", str(folder / "net.cgm")]) == 0
    return folder


def test_photographs_are_named(folder, capsys):
    assert main(["predict", str(folder / "net.cgm"), str(folder / "photos"), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("class ") for line in lines] == [2, 2]
    assert main(["predict", str(folder / "net.cgm"), str(folder / "photos" / "0.png"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    network = convgate.load(folder / "net.safetensors")
    images = torch.from_numpy(network.preparation.read([folder / "photos" / "0.png"]))
    with torch.no_grad():
        assert found["top"][0]["class"] == NAMES[int(network(images).argmax())]
    assert len(found["top"]) == 5


def test_compiling_says_what_gates_add_and_whether_photographs_can_be_read(folder, capsys, tmp_path):
    assert main(["compile", str(folder / "net.safetensors"), "-o", str(tmp_path / "a.cgm")]) == 0
    text = capsys.readouterr().out
    assert "gates add" in text
    assert "prepared" not in text
    assert main(["compile", str(folder / "bare.safetensors"), "-o", str(tmp_path / "b.cgm")]) == 0
    assert "does not say how images are prepared" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "b.cgm"), str(folder / "photos")]) == 2
    assert "network.preparation" in capsys.readouterr().err


def test_integers_whose_scales_photographs_choose(folder, capsys, tmp_path):
    out, photos = tmp_path / "int8.cgm", folder / "photos"
    command = ["compile", str(folder / "net.safetensors"), "-o", str(out), "--precision", "int8"]
    assert main([*command, "--images", str(photos), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["precision"] == "int8"
    assert 0 <= told["agreement"] <= 1
    assert main([*command, "--images", str(photos)]) == 0
    assert f"{told['agreement']:.1%} of up to 100" in capsys.readouterr().out
    assert main(["predict", str(out), str(photos)]) == 0
    assert main(command) == 2
    assert "go together" in capsys.readouterr().err
    command[1] = str(folder / "bare.safetensors")
    assert main([*command, "--images", str(photos)]) == 2
    said = capsys.readouterr().err
    assert "bare.safetensors does not say how images are prepared" in said
    assert "network.preparation" in said


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_file_that_cannot_be_written_is_told_of_before_anything_is_done(folder, capsys, monkeypatch, precision):
    monkeypatch.setattr("convgate.checkpoint.load", lambda *a: pytest.fail("it is read"))
    images = ["--images", str(folder / "photos")] if precision == "int8" else []
    command = ["compile", str(folder / "net.safetensors"), "-o", str(folder / "photos"), "--precision", precision]
    assert main([*command, *images]) == 2
    assert "photos is a folder; name the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("photo", "says"), [("nothing.png", "no file"), ("net.cgm", "cannot be read as an image"), ("empty", "no images")]
)
def test_what_cannot_be_read_is_named(folder, photo, says, capsys):
    (folder / "empty").mkdir(exist_ok=True)
    assert main(["predict", str(folder / "net.cgm"), str(folder / photo)]) == 2
    assert says in capsys.readouterr().err


def test_it_needs_numpy_and_pillow_alone(folder):
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'rich', 'timm', 'yaml', 'lightning'): sys.modules[name] = None\n"
        "from convgate.cli import main\n"
        f"sys.exit(main(['predict', {str(folder / 'net.cgm')!r}, {str(folder / 'photos')!r}, '--top', '1']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout.count("class ")) == (0, 2), run.stderr
    assert "Traceback" not in run.stderr
