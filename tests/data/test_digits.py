import hashlib
import sys
from functools import cache

import numpy as np
import pytest
import torch

from convgate.data import digits, scan_splits
from convgate.data.digits import read_scans
from convgate.errors import InputError

EXPECTED = [
    "8f26b2bd9d135c25",
    "8ba4f891220f5e4c",
    "928e03f070bd2c44",
    "a6911ebcf5c29be6",
    "88430fc294769e13",
    "44d2caa2deb10f0f",
    "1a83674d1b3424f9",
    "395e6773fee8b019",
]


@cache
def some(**options):
    return digits(**{"size": 32, "train": 300, "validation": 40, "test": 30} | options)


def test_shapes_and_statistics():
    splits = some()
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [300, 40, 30]
    assert splits.train.images.shape == (300, 3, 32, 32)
    assert splits.train.classes == tuple("0123456789")
    scaled = splits.train.images.double() / 255
    assert splits.train.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert splits.train.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist())
    assert splits.test.mean == splits.train.mean
    assert splits.test.std == splits.train.std


def test_the_seed_decides_everything():
    again = digits(size=32, train=300, validation=40, test=30)
    for part in ("train", "validation", "test"):
        ours, theirs = getattr(some(), part), getattr(again, part)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.difficulty, theirs.difficulty)
    assert not torch.equal(some(seed=1).train.images, some().train.images)
    assert torch.equal(some(test=20).train.images, some().train.images)


def test_each_split_has_random_numbers_of_its_own():
    first = [part.difficulty[:30].tolist() for part in (some().train, some().validation, some().test)]
    assert len({tuple(values) for values in first}) == 3


def test_no_scan_is_in_two_splits_and_all_classes_are_in_each():
    targets = read_scans()[1]
    splits = scan_splits(0)
    assert list(splits) == ["train", "validation", "test"]
    assert sorted(np.concatenate(list(splits.values()))) == list(range(1797))
    for part, share in zip(splits.values(), (0.6, 0.2, 0.2), strict=True):
        wanted = np.bincount(targets) * share
        assert np.abs(np.bincount(targets[part]) - wanted).max() <= 1.5
    assert set(scan_splits(1)["test"]) != set(splits["test"])


def test_images_are_drawn_from_the_scans_of_their_own_split(monkeypatch):
    """With every scan outside a split blank, the split is the same: nothing of it comes from elsewhere."""
    whole_images, whole_digits = read_scans()
    for part in ("train", "validation", "test"):
        masked = whole_images.copy()
        others = np.setdiff1d(np.arange(1797), scan_splits(0)[part])
        masked[others] = 0
        module = sys.modules["convgate.data.digits"]  # as an attribute of its package it is the function
        with monkeypatch.context() as patch:
            patch.setattr(module, "read_scans", lambda masked=masked: (masked, whole_digits))
            alone = digits(size=32, train=300, validation=40, test=30)
        assert torch.equal(getattr(alone, part).images, getattr(some(), part).images)
        other = "test" if part == "train" else "train"
        assert not torch.equal(getattr(alone, other).images, getattr(some(), other).images)


def test_labels_are_those_of_the_scans():
    """On plain canvases, upright enough, the nearest scan by shape names the digit."""
    part = some(clutter=0.0, size=48).train
    scans, digit = read_scans()
    reference = torch.from_numpy(scans[scan_splits(0)["train"]]).float().flatten(1)
    reference = torch.nn.functional.normalize(reference, dim=1)
    known = torch.from_numpy(digit[scan_splits(0)["train"]])
    right = 0
    for image, label in zip(part.images.float(), part.labels, strict=True):
        ink = (image - image.flatten(1).median(1).values[:, None, None]).abs().sum(0)
        ink[ink < 0.4 * ink.max()] = 0
        ys, xs = ink.nonzero().T
        # A scan is eight high, and its window is a square about the middle of the ink.
        side, middle = int(ys.max() - ys.min()) + 1, int(xs.max() + xs.min()) // 2
        left = min(max(middle - side // 2, 0), 48 - side)
        window = ink[None, None, ys.min() : ys.max() + 1, left : left + side]
        small = torch.nn.functional.adaptive_avg_pool2d(window, 8).flatten()
        right += int(known[(reference @ small).argmax()] == label)
    assert right / len(part) > 0.8  # chance is 0.1


def test_scans_are_used_equally_often():
    labels = some(train=1078 * 2, size=24).train.labels
    targets = read_scans()[1][scan_splits(0)["train"]]
    assert len(targets) == 1078
    assert (labels.bincount().numpy() == 2 * np.bincount(targets)).all()


def test_difficulty_is_uniform_up_to_the_clutter_and_shows_in_the_image():
    part = some().train
    assert 0 <= part.difficulty.min() < 0.05
    assert 0.95 < part.difficulty.max() <= 1
    assert part.difficulty.mean() == pytest.approx(0.5, abs=0.06)
    assert some(clutter=0.3).train.difficulty.max() <= 0.3
    assert some(clutter=0.0).train.difficulty.max() == 0
    # Busy images have large steps between neighbouring pixels nearly everywhere, plain ones only round the digit.
    steps = part.images.float().diff(dim=3).abs().mean(1).flatten(1).median(1).values
    easy, hard = steps[part.difficulty < 0.3], steps[part.difficulty > 0.7]
    assert hard.mean() > 2 * easy.mean()


def test_hardly_a_pixel_is_clipped():
    images = some().train.images
    assert ((images == 0) | (images == 255)).float().mean() < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 23}, "size is 23: give 24"),
        ({"clutter": -0.1}, r"clutter is -0.1.*\[0, 1\]"),
        ({"clutter": 1.1}, "clutter is 1.1"),
        ({"clutter": float("nan")}, "clutter is nan"),
        ({"train": 0}, "train is 0"),
        ({"validation": 0}, "validation is 0"),
        ({"test": -1}, "test is -1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        digits(**options)


def test_scans_and_splits_are_those_of_scikit_learn():
    """Hashes of what sklearn.datasets.load_digits and train_test_split(stratify=..) of scikit-learn 1.9.1 gave."""
    images, digit = read_scans()
    assert images.shape == (1797, 8, 8)
    told = [hashlib.sha256(values.astype(np.uint8).tobytes()).hexdigest()[:16] for values in (images, digit)]
    told += [
        hashlib.sha256(scan_splits(seed)[part].astype(np.int64).tobytes()).hexdigest()[:16]
        for seed in (0, 3)
        for part in ("train", "validation", "test")
    ]
    assert told == EXPECTED
