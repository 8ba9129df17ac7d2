"""The page "Make my network faster", executed as written, but for a small network, small images and a few steps."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import convgate
from convgate.cli import main
from convgate.models import create

TEXT = (Path(__file__).parents[2] / "docs" / "make-my-network-faster.md").read_text()
COMMANDS, PRECISIONS = (block.splitlines() for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL))
FINETUNE, LOOP, UNGATED, PRODUCTION = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
PREPARATION = convgate.Preparation((16, 16), (16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
SMALL = "cifar_resnet8 --model-option width=4 --size 16 --resize whole --mean .5,.5,.5 --std .25,.25,.25 --batch 6"


def made_small(text):
    """The page's text with other numbers; each of them must be there."""
    for large, small in (
        ("finetune resnet50", f"finetune {SMALL}"),
        ("--minutes 30", "--steps 2 --keep 0"),
        ("minutes=30", "steps=2"),
        ("keep=0.8", "keep=0"),
        ('preparation_of("resnet50")', "Preparation((16, 16), (16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)"),
        ("range(0, len(paths), 24)", "range(0, len(paths), 6)"),
        ("n + 24", "n + 6"),
        # After three steps on noise many logits are alike, and no threshold divides them finely.
        ("calibration_batches, budget=0.6", "calibration_batches, budget=0.8, tolerance=0.25"),
        ("convgate.Budget(0.6), 1000", "convgate.Budget(0.6), 3"),
        ("--images photos\n", "--images photos --rounds 5 --only engine-dense,engine-gated --out bench\n"),
    ):
        text = text.replace(large, small)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faster")
    torch.manual_seed(0)
    (folder / "photos").mkdir()
    draw = np.random.default_rng(0)
    for name in ["cat", "dog", *(f"{number:02}" for number in range(28))]:
        Image.fromarray(draw.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / "photos" / f"{name}.jpg")
    save_file(create("cifar_resnet8", width=4).state_dict(), folder / "resnet50.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def finetuned(folder):
    for line in COMMANDS:
        words = shlex.split(made_small(f"{line}\n"))
        assert words[0] == "convgate"
        assert main(words[1:]) == 0
    return folder / "mine"


def test_the_commands_lead_from_weights_to_predictions(finetuned):
    assert {path.name for path in finetuned.iterdir()} == {"net.safetensors", "net.cgm", "report.html", "result.json"}


def test_the_network_is_written_in_other_precisions(finetuned, folder):
    for line in PRECISIONS:
        assert main(shlex.split(line)[1:]) == 0
        written = folder / shlex.split(line)[4]
        assert convgate.engine.load(written).precision == {"net-bf16": "bf16", "net-int8": "int8"}[written.stem]
    # Of the engine's file just the same is made.
    images = PREPARATION.read([folder / "photos" / "cat.jpg"])
    for line in PRECISIONS:
        first = folder / shlex.split(line)[4]
        assert main(shlex.split(line.replace("mine -o ", "mine/net.cgm -o again-"))[1:]) == 0
        first, again = (convgate.engine.load(path) for path in (first, folder / f"again-{first.name}"))
        assert again.preparation == first.preparation
        assert np.array_equal(again(images), first(images))


def test_a_network_without_gates_is_written_in_other_precisions(folder):
    batches = [torch.randn(6, 3, 16, 16)] * 2
    scope = {"model": create("cifar_resnet8", width=4).eval(), "batches": batches}
    exec(compile(made_small(UNGATED), "page", "exec"), scope)
    assert convgate.engine.load("dense-bf16.cgm").preparation == PREPARATION
    assert convgate.engine.load("dense-int8.cgm").precision == "int8"


def test_production_needs_no_torch(finetuned):
    code = f"import sys; sys.modules['torch'] = None\n{PRODUCTION}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=finetuned.parent)
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["photos/cat.jpg", "photos/dog.jpg"]
    assert len([line for line in PRODUCTION.splitlines() if line]) <= 8


def test_python_does_the_same(folder, finetuned):
    for path in finetuned.iterdir():
        path.rename(folder / f"command-{path.name}")
    scope = {"model": create("cifar_resnet8", width=4).eval()}
    exec(compile(made_small(FINETUNE), "page", "exec"), scope)
    assert scope["result"].steps == 2
    assert convgate.load("mine/net.safetensors").preparation == PREPARATION


def test_the_plain_loop_runs(folder):
    images = [torch.randn(4, 3, 16, 16) for _ in range(4)]
    scope = {"model": create("cifar_resnet8", width=4).eval(), "images": images[0]}
    scope |= {"batches": iter(images), "calibration_batches": images}
    exec(compile(made_small(LOOP), "page", "exec"), scope)
    assert scope["step"] == 2
    assert Path("net.cgm").is_file()
    assert len([line for line in LOOP.splitlines() if line.strip()]) <= 25
