from dataclasses import replace

import pytest
import torch
from tests.data.numbered import make, origins

from convgate.data import Splits
from convgate.errors import DataError, InputError
from convgate.preparation import Preparation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(12, 3, 4, 5)}, "torch.uint8"),
        ({"images": torch.zeros(12, 4, 5, dtype=torch.uint8)}, r"\[N, C, H, W\]"),
        ({"images": torch.zeros(0, 3, 4, 5, dtype=torch.uint8)}, "no side zero"),
        ({"images": torch.zeros(12, 4, 5, 3, dtype=torch.uint8).permute(0, 3, 1, 2)}, "contiguous"),
        ({"labels": torch.zeros(12, dtype=torch.int32)}, "torch.int64"),
        ({"labels": torch.zeros(11, dtype=torch.int64)}, r"shape \[12\]"),
        ({"labels": torch.full((12,), 4)}, r"from 4 to 4.*\[0, 4\)"),
        ({"labels": torch.full((12,), -1)}, "from -1"),
        ({"mean": (0.5,)}, "3 channels"),
        ({"mean": (0.5, float("nan"), 0.5)}, "finite"),
        ({"std": (0.5, 0.0, 0.5)}, "above zero"),
        ({"std": (0.5, float("inf"), 0.5)}, "finite"),
        ({"difficulty": torch.zeros(12, dtype=torch.float64)}, "torch.float32"),
        ({"difficulty": torch.full((12,), float("nan"))}, "NaN"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        replace(make(), **change)


def test_subset_keeps_images_labels_and_difficulty_together():
    part = make().subset([11, 0, 5])
    assert origins(part) == [11, 0, 5]
    assert part.labels.tolist() == [3, 0, 1]
    assert torch.equal(part.difficulty, torch.tensor([11, 0, 5]) / 12)
    assert replace(make(), difficulty=None).subset([1]).difficulty is None


@pytest.mark.parametrize("indices", [[], [12], [-1], [[0]], [0.5], torch.ones(12, dtype=torch.bool)])
def test_subset_refuses_what_is_no_list_of_positions(indices):
    with pytest.raises(InputError, match="indices"):
        make().subset(indices)


def test_shuffled_is_a_permutation_that_depends_on_the_seed():
    whole = make()
    first, again, other = whole.shuffled(1), whole.shuffled(1), whole.shuffled(2)
    assert sorted(origins(first)) == list(range(12))
    assert origins(first) == origins(again)
    assert origins(first) != origins(other)
    assert origins(first) != list(range(12))


def test_take_is_random_and_without_repeats():
    whole = make(120)
    few = whole.take(40, seed=0)
    assert len(few) == 40 == len(set(origins(few)))
    assert set(few.labels.tolist()) == {0, 1, 2, 3}  # the first 40 would be of two classes
    for n in (0, 121):
        with pytest.raises(InputError, match=r"\[1, 120\]"):
            whole.take(n, seed=0)


def test_splits_must_agree():
    whole = make()
    assert len(Splits("x", whole, whole, whole).test) == 12
    with pytest.raises(DataError, match="classes of train"):
        Splits("x", whole, whole, replace(whole, classes=tuple("abcde")))
    small = replace(whole, images=whole.images[..., :4].contiguous())
    with pytest.raises(DataError, match=r"image shape.*validation"):
        Splits("x", whole, small, whole)


def test_photographs_can_be_prepared_to_look_like_a_set():
    images = make()
    expected = Preparation((4, 5), (4, 5), "bilinear", images.mean, images.std, images.classes)
    assert images.preparation == expected
    square = replace(images, images=images.images[..., :4].contiguous(), view=2)
    assert square.preparation == replace(expected, size=(2, 2), resize=4)
    two = replace(images, images=images.images[:, :2].contiguous(), mean=(0.5,) * 2, std=(0.5,) * 2)
    assert two.preparation is None
