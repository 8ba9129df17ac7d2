"""Tar shards: read by number for evaluation, shard after shard for training."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from convgate.data import Batches, load, shards
from convgate.errors import DataError, InputError

N_SHARDS, IN_ONE = 5, 6


def write(path, first, n=IN_ONE, label=lambda i: str(i % 3), leave_out=()):
    """`n` even images of the grey values `first`, `first` + 1, ..: a pixel says which image it is."""
    with tarfile.open(path, "w") as shard:
        for i in range(first, first + n):
            png = io.BytesIO()
            Image.fromarray(np.full((20, 20, 3), i, np.uint8)).save(png, "png")
            for kind, content in (("png", png.getvalue()), ("cls", label(i).encode())):
                if kind not in leave_out:
                    member = tarfile.TarInfo(f"{i:04d}.{kind}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


@pytest.fixture
def root(tmp_path):
    for k in range(N_SHARDS):
        write(tmp_path / f"train-{k}.tar", k * IN_ONE)
    write(tmp_path / "test.tar", 200)
    return tmp_path


def loaded(root, **options):
    return load("shards", root=root, train="train-{0..4}.tar", test="test.tar", size=14, **options)


def read(batches):
    """The images that were read, by their grey values, in order."""
    found = []
    for images, labels in batches:
        values = images[:, 0, 0, 0].tolist()
        assert images.shape[1:] == (3, 16, 16)
        assert labels.tolist() == [value % 3 for value in values]
        found += values
    return found


def test_the_parts_by_number(root):
    splits = loaded(root)
    assert [len(part) for part in splits.parts] == [24, 6, 6]  # the last training shard is held out
    assert splits.train.classes == ("0", "1", "2")
    assert read(Batches(splits.train, 5)) == list(range(24))
    assert read(Batches(splits.validation, 5, workers=2)) == list(range(24, 30))
    assert read(Batches(splits.test, 4)) == list(range(200, 206))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_reads_every_image_in_an_order_drawn_from_seed_and_epoch(root, workers):
    train = loaded(root, validation="test.tar").train

    def epoch(number, seed=0):
        batches = Batches(train, 3, seed=seed, shuffle=True, workers=workers)
        batches.set_epoch(number)
        return read(batches)

    first = epoch(0)
    assert len(first) == 30
    # With two processes the one with fewer shards may begin again while the other is not through.
    assert sorted(first) == list(range(30)) if not workers else len(set(first)) >= 24
    assert epoch(0) == first  # a resumed run sees the same
    assert epoch(1) != first
    assert epoch(0, seed=1) != first
    assert first != sorted(first)


def test_two_nodes_read_disjoint_images_and_together_all(root):
    train = loaded(root).train
    shares = [read(Batches(train, 4, shuffle=True, rank=rank, world_size=2, workers=0)) for rank in (0, 1)]
    assert [len(share) for share in shares] == [12, 12]
    assert sorted(shares[0] + shares[1]) == list(range(24))


def test_an_epoch_of_a_stated_length(root):
    train = loaded(root, epoch=40).train
    batches = Batches(train, 10, shuffle=True, workers=0)
    assert len(batches) == 4
    seen = read(batches)
    assert sorted(seen[:24]) == list(range(24))
    assert len(seen) == 40
    assert len(Batches(train, 10)) == 3  # by number, it is all images


def test_reading_leaves_the_global_random_states_alone(root):
    train = loaded(root).train
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    read(Batches(train, 4, shuffle=True, workers=0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_classes_by_name(root):
    names = ("cat", "bird", "dog")
    for path in ("train-0.tar", "train-1.tar", "test.tar"):
        write(root / path, 0, label=lambda i: names[i % 3])
    how = {"train": "train-{0,1}.tar", "test": "test.tar", "size": 14}
    splits = shards(root, **how)
    assert splits.train.classes == ("bird", "cat", "dog")
    assert splits.train.labels.tolist() == [1, 0, 2, 1, 0, 2]
    images, labels = next(iter(Batches(splits.train, 6, shuffle=True, workers=0)))
    assert labels.tolist() == [[1, 0, 2][i % 3] for i in images[:, 0, 0, 0].tolist()]
    assert shards(root, classes=names, **how).train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(DataError, match="the class is 'bird', and the 2 classes are cat, dog"):
        shards(root, classes=("cat", "dog"), **how)


def test_what_is_wrong_with_shards_is_said(root):
    with pytest.raises(DataError, match=r"1 of the 6 shards of 'train-\{0\.\.5\}\.tar' are not there: .*train-5\.tar"):
        shards(root, "train-{0..5}.tar", "test.tar")
    write(root / "bare.tar", 0, leave_out=("cls",))
    with pytest.raises(DataError, match="holds 6 images and 0 classes"):
        shards(root, "bare.tar", "test.tar", validation="test.tar")
    (root / "text.tar").write_text("not a tar file" * 100)
    with pytest.raises(DataError, match="cannot be read as a plain tar file"):
        shards(root, "text.tar", "test.tar", validation="test.tar")
    with pytest.raises(InputError, match="name the shards of validation"):
        shards(root, "train-0.tar", "test.tar")
    with pytest.raises(InputError, match="epoch is -1"):
        loaded(root, epoch=-1)
    with pytest.raises(InputError, match="there are 4 training shards for 5 processes"):
        next(iter(Batches(loaded(root).train, 1, shuffle=True, rank=0, world_size=5)))
