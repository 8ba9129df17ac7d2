"""Answers are compared image by image, whatever an image has of them."""

import pytest
import torch

from convgate.errors import InputError
from convgate.finetuning.compare import UNLABELLED, check_logits, divergence, right, same, targets


def one_hot(classes, of=3):
    return 9.0 * torch.nn.functional.one_hot(torch.tensor(classes), of).movedim(-1, 1).float()


def test_an_image_has_one_answer_or_one_for_each_position():
    assert same(one_hot([0, 1]), one_hot([0, 2])).tolist() == [1.0, 0.0]
    assert same(one_hot([[[0, 1], [2, 2]]]), one_hot([[[0, 1], [2, 1]]])).tolist() == [0.75]


def test_the_divergence_of_a_map_is_the_mean_of_its_positions():
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    rows = [divergence(ours[..., y, x], theirs[..., y, x]) for y in range(3) for x in range(5)]
    torch.testing.assert_close(divergence(ours, theirs), torch.stack(rows).mean(0))
    by_hand = (theirs.softmax(1) * (theirs.log_softmax(1) - ours.log_softmax(1))).sum(1).double().mean((1, 2))
    torch.testing.assert_close(divergence(ours, theirs), by_hand, rtol=1e-5, atol=1e-6)


def test_what_names_no_class_of_a_map_is_not_counted():
    logits = one_hot([[[0, 1], [2, 2]], [[0, 0], [0, 0]]])
    labels = torch.tensor([[[0, 255], [3, 1]], [[-1, 3], [3, 3]]])
    shares = right(logits, labels)
    assert shares[0] == 0.5
    assert shares[1].isnan()
    assert targets(logits, labels)[0].tolist() == [[0, UNLABELLED], [UNLABELLED, 1]]


def test_labels_follow_the_size_of_the_map():
    labels = torch.arange(2).view(1, 1, 2).expand(1, 4, 2).repeat_interleave(4, 2)
    assert right(one_hot([[[0, 1], [0, 1]]]), labels).tolist() == [1.0]


def test_a_classifiers_labels_stay_as_they_are():
    labels = torch.tensor([2, 7])
    assert targets(one_hot([2, 1]), labels) is labels
    assert right(one_hot([2, 1]), labels).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("output", [{"out": torch.zeros(1, 3)}, torch.zeros(1, 3, 8), None])
def test_what_is_not_logits_is_refused(output):
    with pytest.raises(InputError, match=r"\[N, classes, H, W\]"):
        check_logits(output)
