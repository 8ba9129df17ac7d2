"""Accuracy beside speed, on photographs in a folder for each class."""

import numpy as np
import pytest
import torch
from PIL import Image

from convgate import DualGating, gate, save
from convgate.bench import bench
from convgate.bench.built import Built
from convgate.bench.competitors import Competitor, choose
from convgate.bench.labelled import SCALES, labelled
from convgate.cli import main
from convgate.errors import DataError, InputError
from convgate.models import create
from convgate.preparation import Preparation

PREPARATION = Preparation(size=(16, 16), resize=16, classes=("cat", "dog", "twin", "twin"))


@pytest.fixture
def folder(tmp_path):
    """Eight photographs each of "cat", "dog" and number 3, which are grey of 10, 20 and 30 and what is added."""
    rng = np.random.default_rng(0)
    for level, name in enumerate(("cat", "dog", "03"), 1):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = np.full((20, 24, 3), 10 * level, np.uint8) + rng.integers(0, 5, (20, 24, 1), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_labels_follow_from_folders(folder):
    torch.manual_seed(0)
    found = labelled(folder, PREPARATION, 4)
    assert len(found.paths) == len(found.labels) == 18
    assert len(found.others) == 6 <= SCALES
    assert not {*found.paths} & {*found.others}
    names = {0: "cat", 1: "dog", 3: "03"}
    assert [path.parent.name for path in found.paths] == [names[label] for label in found.labels]
    images, labels = next(found.batches(4))
    assert images.shape == (4, 3, 16, 16)
    assert labels.tolist() == list(found.labels[:4])


def test_accuracy_counts_the_largest_output(folder):
    found = labelled(folder, PREPARATION, 4)

    def by_grey(images):
        pixels = images.mean((2, 3)) * np.array(PREPARATION.std) + np.array(PREPARATION.mean)
        level = np.round(pixels.mean(1) * 255 / 10.8).astype(int)
        return {"logits": np.eye(5)[level][:, [1, 2, 0, 3]]}

    assert found.accuracy(by_grey, 1) == 1
    assert found.accuracy(lambda images: np.eye(4)[np.zeros(len(images), int)], 3) == found.labels.count(0) / 18


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda folder: (folder / "cat").rename(folder / "bird"), "the folder bird is no class"),
        (lambda folder: (folder / "03").rename(folder / "4"), "the folder 4 is no class .* 0 to 3"),
        (lambda folder: (folder / "03").rename(folder / "twin"), "the folder twin is no class"),
        (lambda folder: (folder / "cat" / "0.png").rename(folder / "0.png"), "0.png lies beside"),
    ],
)
def test_folders_that_are_no_classes(folder, make, match):
    make(folder)
    with pytest.raises(DataError, match=match):
        labelled(folder, PREPARATION, 4)


def test_whole_batches_alone_are_judged(folder):
    found = labelled(folder, PREPARATION, 4, 5)
    assert len(found.paths) == 15
    assert found.accuracy(lambda images: np.eye(4)[np.zeros(len(images), int)], 5) == found.labels.count(0) / 15
    with pytest.raises(DataError, match=r"holds 24 photographs, 6 of which choose scales.* a batch of 19"):
        labelled(folder, PREPARATION, 4, 19)


def test_an_engine_that_fails_on_a_photograph_is_a_row(folder, tmp_path):
    def build(subject, threads):
        def call(images):
            if not any(np.array_equal(images, known) for known in subject.inputs):
                raise RuntimeError("not this one")
            with torch.no_grad():
                return subject.dense(torch.from_numpy(images)).numpy()

        return Built(call)

    network = gate(
        create("cifar_resnet8", width=8, num_classes=4).eval(), DualGating(), torch.zeros(1, 3, 16, 16)
    ).eval()
    network.preparation = PREPARATION
    save(network, tmp_path / "net.safetensors")
    competitors = (Competitor("picky", "picky", "dense", build), *choose("eager"))
    result = bench(
        str(tmp_path / "net.safetensors"), labelled=str(folder), competitors=competitors, threads=1, rounds=1
    )
    picky, eager = result.rows
    assert "not this one" in picky.failed
    assert 0 <= eager.accuracy <= 1
    with pytest.raises(InputError, match="leave `given` out"):
        bench(str(tmp_path / "net.safetensors"), labelled=str(folder), given=[torch.zeros(1, 3, 16, 16)])


def test_too_few(folder):
    for path in sorted(folder.rglob("*.png"))[3:]:
        path.unlink()
    with pytest.raises(DataError, match="holds 3 photographs"):
        labelled(folder, PREPARATION, 4)


def test_the_command_tells_accuracy(folder, tmp_path, capsys):
    torch.manual_seed(0)
    network = gate(
        create("cifar_resnet8", width=8, num_classes=4).eval(), DualGating(), torch.zeros(1, 3, 16, 16)
    ).eval()
    network.preparation = PREPARATION
    save(network, tmp_path / "net.safetensors")
    arguments = [
        "bench",
        str(tmp_path / "net.safetensors"),
        "--labelled",
        str(folder),
        "--rounds",
        "1",
        "--threads",
        "1",
    ]
    arguments += ["--only", "eager,masked,engine-gated,engine-gated-int8", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "right of 18" in table
    assert "%" in table
    (written,) = (tmp_path / "out").glob("*.csv")
    rows = written.read_text()
    assert "accuracy" in rows.splitlines()[0]


def test_accuracy_takes_classes():
    from convgate.bench.subject import _outputs

    class Maps(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = create("cifar_resnet8", width=8).conv1

        def forward(self, x):
            return torch.relu(self.conv(x)) + self.conv(x)

    network = gate(create("cifar_resnet8", width=8).eval(), DualGating(), torch.zeros(1, 3, 16, 16)).eval()
    assert _outputs(network) == 10
    with pytest.raises(InputError, match="--labelled"):
        _outputs(_Returns(network, Maps().eval()))


class _Returns:
    """Stands in for a gated network that answers with maps."""

    def __init__(self, network, module):
        self.plan, self.module = network.plan, module

    def __call__(self, x):
        return self.module(x)
