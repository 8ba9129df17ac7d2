"""`convgate finetune`: from weights and photographs to a .cgm by commands; wrong inputs are answered first."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import convgate
from convgate.cli import main
from convgate.models import create

CLASSES = ("cat", "dog", "horse")
MODEL = ["cifar_resnet8", "--model-option", "width=4", "--model-option", "num_classes=3"]
PREPARED = ["--size", "16", "--resize", "whole", "--mean", ".5,.5,.5", "--std", ".25,.25,.25"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of photographs by class, a flat one, weights, and names of classes."""
    home = tmp_path_factory.mktemp("finetune")
    torch.manual_seed(0)
    model = create("cifar_resnet8", width=4, num_classes=3).eval()
    with torch.no_grad():  # its answers are to differ from image to image
        model.fc.bias -= model(torch.randn(50, 3, 16, 16)).mean(0)
        model.fc.weight *= 20
        model.fc.bias *= 20
    state = {key.replace("fc.", "linear."): value for key, value in model.state_dict().items()}
    save_file(state, home / "weights.safetensors")
    draw = np.random.default_rng(0)
    for number in range(24):
        name = CLASSES[number % 3]
        (home / "photos" / name).mkdir(parents=True, exist_ok=True)
        (home / "flat").mkdir(exist_ok=True)
        size = (1, 1, 3) if number == 5 else (20, 30, 3)
        image = Image.fromarray(draw.integers(0, 256, size, np.uint8)).convert(["RGB", "L", "RGBA"][number // 3 % 3])
        image.save(home / "photos" / name / f"{number}.png")
        image.save(home / "flat" / f"{number}.png")
    (home / "classes.txt").write_text("\n".join(CLASSES))
    return home


def command(home, *more, images="photos"):
    arguments = ["finetune", *MODEL, "--weights", str(home / "weights.safetensors"), "--images", str(home / images)]
    arguments += ["--rename", "linear.=fc."]
    return [*arguments, *PREPARED, "--batch", "4", "--steps", "4", "--budget", "0.9", "--keep", "0", *more]


@pytest.fixture(scope="module")
def mine(home):
    assert main(command(home, "--classes", str(home / "classes.txt"), "-o", str(home / "mine"))) == 0
    return home / "mine"


def test_it_ends_with_a_checkpoint_an_engine_a_page_and_a_record(mine, home, capsys):
    assert {path.name for path in mine.iterdir()} == {"net.safetensors", "net.cgm", "report.html", "result.json"}
    record = json.loads((mine / "result.json").read_text())
    assert abs(record["after"]["share"] - 0.9) < 0.05
    assert record["about"]["labels"] == "the folders that the images lie in"
    assert record["after"]["accuracy"] is not None
    assert set(record["kept"]) == {"0.99", "0.98", "0.95"}
    page = (mine / "report.html").read_text()
    assert "gates add" in page
    assert "accuracy" in page
    assert convgate.load(mine / "net.safetensors").preparation.classes == CLASSES
    photo = next((home / "flat").iterdir())
    assert main(["predict", str(mine / "net.cgm"), str(photo), "--json"]) == 0
    assert {entry["class"] for entry in json.loads(capsys.readouterr().out)[0]["top"]} == set(CLASSES)


def test_a_finished_folder_is_left_alone(mine, home, capsys):
    before = (mine / "net.cgm").read_bytes()
    assert main(command(home, "-o", str(mine))) == 2
    assert "--fresh" in capsys.readouterr().err
    assert (mine / "net.cgm").read_bytes() == before


def test_a_budget_out_of_reach_deletes_nothing(mine, home, capsys):
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    assert main(command(home, "-o", str(mine), "--budget", "0.001", "--fresh")) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before


def test_a_killed_run_goes_on_and_another_is_refused(home, monkeypatch, capsys):
    out = home / "killed"
    finetuning = __import__("convgate.finetuning.run", fromlist=["Run"])
    step = finetuning.Run._step
    left = [3]

    def killed(self, *arguments):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(finetuning.Run, "_step", killed)
    assert main(command(home, "--labels", "none", "-o", str(out))) == 130
    assert "continues" in capsys.readouterr().err
    monkeypatch.undo()
    assert (out / "state.pt").is_file()
    assert main(command(home, "--labels", "none", "--batch", "5", "-o", str(out))) == 2
    assert "batch was 4, and is 5 now" in capsys.readouterr().err
    assert main(command(home, "--labels", "none", "-o", str(out))) == 0
    text = capsys.readouterr()
    assert "going on from step 2" in text.err
    assert "accuracy" not in text.out
    assert not (out / "state.pt").exists()


def test_lost_answers_end_with_an_error_that_says_what_to_do(home, capsys):
    out = home / "lost"
    assert main(command(home, "--keep", "1", "--budget", "0.3", "--option", "init=paper", "-o", str(out))) == 2
    text = capsys.readouterr().err
    assert "answers stay (keep=1.0)" in text
    assert f"written to {out}" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--images", "EMPTY"], "holds no images"),
        (["--images", "nowhere"], "nowhere is not there"),
        (["--weights", "nothing.pt"], "no file of weights nothing.pt"),
        (["--weights", "WRONG"], "does not fit CifarResNet"),
        (["--rename", "linear"], "write it as OLD=NEW"),
        (["--budget", "0.001"], "cannot be reached: with every gate closed"),
        (["--budget", "60"], "share of the dense MACs"),
        (["--keep", "80"], "share of the answers"),
        (["--batch", "1"], "at least 2"),
        (["--labels", "folder"], "no such file"),
        (["--classes", "OTHER"], r"3 of 3 names of classes fit none of the network's 3 outputs (cat, dog, horse)"),
        (["--classes", "FEWER"], "2 names of classes are given, and the network has 3 outputs"),
        (["--interpolation", "magic"], "bilinear"),
        (["--like", "resnet5"], "did you mean"),
        (["--method", "DualGatng"], "did you mean DualGating"),
        (["--option", "tiel=2"], "tiel"),
        (["--images", "BROKEN"], "1 of 25 images cannot be read"),
        (["--held-out", "SAME"], "divide them"),
    ],
)
def test_mistakes_are_answered_and_leave_no_folder(home, change, says, capsys):
    (home / "EMPTY").mkdir(exist_ok=True)
    save_file({"a": torch.zeros(1)}, home / "WRONG")
    (home / "OTHER").write_text("a\nb\nc\n")
    (home / "FEWER").write_text("cat\ndog\n")
    broken = home / "BROKEN"
    broken.mkdir(exist_ok=True)
    for path in (home / "flat").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    replaced = {name: str(home / name) for name in ("EMPTY", "WRONG", "OTHER", "FEWER", "BROKEN")}
    replaced["SAME"] = str(home / "photos")
    arguments = command(home, "-o", str(home / "failed"), *(replaced.get(word, word) for word in change))
    assert main(arguments) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (home / "failed").exists()


def test_files_that_are_not_a_finetunings_stay(home, tmp_path, capsys):
    weights = tmp_path / "net.safetensors"
    weights.write_bytes((home / "weights.safetensors").read_bytes())
    for fresh in ([], ["--fresh"]):
        assert main(command(home, "-o", str(tmp_path), "--weights", str(weights), *fresh)) == 2
        assert "would be replaced by the gated network" in capsys.readouterr().err
        assert main(command(home, "-o", str(tmp_path), *fresh)) == 2
        assert "not a finetuning's" in capsys.readouterr().err
    assert weights.read_bytes() == (home / "weights.safetensors").read_bytes()


def test_names_are_replaced_in_a_file_of_weights(home, tmp_path, capsys):
    images = ["--images", str(home / "flat"), "-o", str(tmp_path / "out")]
    assert main(["finetune", "cifar_resnet8", "--rename", "a=b", *images]) == 2
    assert "--weights" in capsys.readouterr().err


def test_unreadable_files_can_be_left_out(home, capsys):
    broken = home / "broken"
    broken.mkdir()
    for path in (home / "flat").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "broken.jpg").write_bytes(b"\xff\xd8")
    assert main(command(home, "--skip-unreadable", "-o", str(home / "skipped"), images="broken")) == 0
    assert "left out, since they cannot be read: 1" in capsys.readouterr().err


def test_weights_are_asked_for_and_a_model_says_how_images_are_prepared(home, tmp_path, capsys, monkeypatch):
    images = ["--images", str(home / "flat"), "-o", str(tmp_path / "out")]
    assert main(["finetune", "cifar_resnet8", *images]) == 2
    assert "--weights published" in capsys.readouterr().err
    (tmp_path / "mynets.py").write_text(
        "import convgate\ndef small():\n    return convgate.create_model('cifar_resnet8')\n"
    )
    assert main(["finetune", f"{tmp_path}/mynets.py:small", *images]) == 2
    assert "--like" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
