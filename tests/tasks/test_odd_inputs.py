"""What detectors are given beside photographs with objects: right, or a clear error."""

import pytest
import torch

from convgate.data import box_target, digit_scenes
from convgate.errors import DataError, InputError
from convgate.gated import gate
from convgate.methods import DualGating
from convgate.models import create
from convgate.tasks import create_task


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    model = create("point_detector", width=8, tower=1, num_classes=3, score_thresh=0.0, detections_per_img=5).eval()
    return model, gate(model, DualGating(init="paper", tile=2), [torch.zeros(3, 64, 64)])


@torch.no_grad()
@pytest.mark.parametrize("shape", [(3, 1, 1000), (1, 40, 40), (3, 16, 8000), (3, 1, 1)], ids=str)
def test_any_size_and_grey(pair, shape):
    model, net = pair
    images = [torch.rand(shape), torch.rand(3, 33, 50)]
    found, decisions = net.decide(images)
    assert (net.cost(decisions).macs <= net.cost(net.open_decisions(1, decisions.size)).macs).all()
    opened = net.replay(images, net.open_decisions(2, decisions.size))
    for ours, theirs, image in zip(opened, model(images), images, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        limits = torch.tensor(image.shape[1:]).flip(0).repeat(2)
        assert (ours["boxes"] <= limits).all()
    assert [one.keys() for one in found] == [{"boxes", "scores", "labels"}] * 2


def test_an_alpha_channel_is_refused(pair):
    with pytest.raises(InputError, match=r"image 0 has shape \[4, 40, 40\].*3 channels"):
        pair[1]([torch.rand(4, 40, 40)])


def test_images_without_objects(pair):
    nothing = box_target([], [])
    losses = pair[0].train()([torch.rand(3, 40, 40)], [nothing])
    pair[0].eval()
    assert all(bool(torch.isfinite(loss.detach())) for loss in losses.values())
    task, scenes = create_task("detection", {"crop": 32}), digit_scenes(1, 1, 1, least=64, most=64).test
    x, targets = task.augmented(scenes, ([torch.zeros(3, 20, 20, dtype=torch.uint8)], [nothing]), torch.Generator())
    assert (x[0].shape, targets[0]["boxes"].shape) == ((3, 32, 32), (0, 4))
    found = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    judge = task.judge(scenes.classes)
    judge.add([found], [nothing])
    with pytest.raises(DataError, match="none of the images has a box"):
        judge.scores()
