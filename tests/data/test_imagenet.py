"""Folders of images that are decoded when they are asked for."""

import numpy as np
import pytest
import torch
from PIL import Image

from convgate.data import Augmentation, Batches, ImageFiles, imagenet
from convgate.errors import DataError, InputError


def picture(height, width, seed=0):
    """Smooth, so that resizing and JPEG change little."""
    rows, columns = np.mgrid[0:height, 0:width]
    shades = [rows / height, columns / width, np.full_like(rows, 0.3 + 0.1 * seed, float)]
    return Image.fromarray((255 * np.stack(shades, 2)).astype(np.uint8))


@pytest.fixture
def root(tmp_path):
    for part, n in (("train", 4), ("val", 2)):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(n):
                picture(90 + 10 * i, 120, i).save(tmp_path / part / label / f"{i}.{('JPEG', 'png')[i % 2]}")
    return tmp_path


def test_the_parts_and_what_a_network_sees_of_an_image(root):
    splits = imagenet(root, size=56, validation=3)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [5, 3, 4]
    assert splits.train.classes == ("cat", "dog")
    assert tuple(splits.test.images.shape) == (4, 3, 64, 64)  # 56 * 8 / 7
    batches = list(Batches(splits.test, 3))
    assert [len(images) for images, _ in batches] == [3, 1]
    assert batches[0][1].tolist() == [0, 0, 1]
    images = batches[0][0]
    assert images.dtype == torch.uint8
    seen = splits.test.seen(images)
    assert torch.equal(seen, images[:, :, 4:60, 4:60])
    # The middle of the image is in the middle; rows brighten downwards, over the whole height.
    assert float(images[0, 0].float().mean()) == pytest.approx(127, abs=3)
    assert images[0, 0, 0].float().mean() < 8
    assert images[0, 0, -1].float().mean() > 247


def test_a_held_out_image_is_in_no_other_part(root):
    splits = imagenet(root, size=56, validation=3)
    paths = {part: [part.images.whole.path(int(i)) for i in part.images.numbers] for part in splits.parts[:2]}
    assert len({file for files in paths.values() for file in files}) == 8
    for part, files in paths.items():
        assert [file.parent.name for file in files] == [part.classes[label] for label in part.labels]


def test_training_crops_are_of_the_size_that_the_network_sees(root):
    splits = imagenet(root, size=56, validation=3)
    images = splits.train.at(range(5))
    crops = Augmentation(crop="resized")(images, torch.Generator().manual_seed(0), splits.train.view)
    assert crops.shape == (5, 3, 56, 56)
    with pytest.raises(InputError, match="crop='resized'"):
        Augmentation()(images, torch.Generator(), splits.train.view)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / "val" / "dog").rename(root / "val" / "fox"),
            "train has none of fox; val .* none of dog",
        ),
        (lambda root: (root / "val").rename(root / "test"), "val is not there"),
        (lambda root: [path.unlink() for path in (root / "train" / "dog").iterdir()], "no images in dog"),
    ],
)
def test_other_folders_are_refused(root, damage, message):
    damage(root)
    with pytest.raises(DataError, match=message):
        imagenet(root, size=56, validation=3)


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"a\.jpg cannot be read"):
        ImageFiles([tmp_path / "a.jpg"], 8)[torch.tensor([0])]


def test_a_size_of_nothing_is_refused(root):
    with pytest.raises(InputError, match="at least 8"):
        imagenet(root, size=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_reads_the_same_batches_however_many_processes_read(root, workers):
    train = imagenet(root, size=56, validation=3).train

    def epoch(number, workers):
        batches = Batches(train, 2, seed=3, shuffle=True, workers=workers)
        batches.set_epoch(number)
        return list(batches)

    straight = Batches(train, 2, seed=3, shuffle=True, workers=0)
    list(straight)
    straight.set_epoch(1)
    for (images, labels), (again, same_labels) in zip(straight, epoch(1, workers), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same_labels)
