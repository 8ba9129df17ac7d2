import math

import pytest
import torch
from torch import nn

from convgate.data import IGNORED, MaskSet
from convgate.errors import InputError, RecipeError
from convgate.tasks import create_task

TASK = create_task("segmentation", {"crop": [16, 24]})


class _Scenes:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        image = torch.full((3, 20, 30), 50, dtype=torch.uint8)
        mask = torch.zeros(20, 30, dtype=torch.uint8)
        image[:, 5:12], mask[5:12] = 250, 1
        return image, mask


SCENES = MaskSet(_Scenes(), ("dark", "bright"))


def test_masks_go_with_their_images():
    task = create_task("segmentation", {"crop": [16, 24], "colour": 0, "scale": [0.5, 2.0]})
    x, labels = task.augmented(SCENES, SCENES.batch([0, 1]), torch.Generator().manual_seed(0))
    assert (x.shape, labels.shape, labels.dtype) == ((2, 3, 16, 24), (2, 16, 24), torch.int64)
    pixels = ((x * torch.tensor(SCENES.std).view(3, 1, 1) + torch.tensor(SCENES.mean).view(3, 1, 1)) * 255).mean(1)
    # Away from edges, which resizing blurs.
    assert (pixels[labels == 1] > 140).double().mean() > 0.85
    assert (pixels[labels == 0] < 160).double().mean() > 0.85
    assert (pixels[labels == IGNORED] < 1).all()


def test_mean_iou_by_hand():
    judge = TASK.judge(("a", "b", "never"))
    true = torch.tensor([[0, 0, 1, IGNORED]], dtype=torch.uint8)
    predicted = nn.functional.one_hot(torch.tensor([[[0, 1, 1, 1]]]), 3).permute(0, 3, 1, 2).float()
    judge.add({"out": predicted}, [true])
    scores = judge.scores()
    assert next(iter(scores)) == TASK.metric
    assert scores["mIoU"] == pytest.approx(0.5)  # of a 1/2, of b 1/2; a class that is nowhere does not count
    assert scores["pixel accuracy"] == pytest.approx(2 / 3)
    assert "IoU of never" not in scores


def test_losses():
    logits = torch.zeros(1, 2, 2, 2, requires_grad=True)
    labels = torch.tensor([[[0, 1], [IGNORED, 1]]])
    losses = TASK.losses({"out": logits, "aux": logits}, labels, 0.0)
    assert float(losses["cross_entropy"].detach()) == pytest.approx(math.log(2))
    assert float(losses["auxiliary"].detach()) == pytest.approx(0.4 * math.log(2))
    nothing = TASK.losses(logits, torch.full_like(labels, IGNORED), 0.0)["cross_entropy"]
    assert float(nothing.detach()) == 0
    weighted = create_task("segmentation", {"weights": [1, 3]}).losses(logits, labels, 0.0)["cross_entropy"]
    assert float(weighted.detach()) == pytest.approx(math.log(2))
    with pytest.raises(RecipeError, match="3 values, and there are 2"):
        create_task("segmentation", {"weights": [1, 3, 1]}).losses(logits, labels, 0.0)


def test_a_teacher_is_compared_pixel_by_pixel():
    logits = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(TASK.divergence(logits, {"out": logits + 3}, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(TASK.divergence(logits, -logits, 2.0)) > 0.01
    with pytest.raises(InputError, match="same classes"):
        TASK.divergence(logits, logits[:, :1], 1.0)


def test_a_model_of_other_classes_is_refused():
    TASK.check(nn.Conv2d(3, 2, 1), SCENES, "model")
    with pytest.raises(RecipeError, match=r"logits \[1, 2, 20, 30\]"):
        TASK.check(nn.Conv2d(3, 5, 1), SCENES, "model")
