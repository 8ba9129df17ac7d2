import pytest
import torch

from convgate.data import box_target, digit_scenes
from convgate.errors import InputError, RecipeError
from convgate.models import create
from convgate.tasks import create_task

SCENES = digit_scenes(train=4, validation=2, test=3, least=64, most=96, digits=3).test
TASK = create_task("detection", {"crop": 64, "scale": [0.5, 1.5], "colour": 0.2})


def certain(target):
    return {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.ones(len(target["labels"]))}


def test_the_true_boxes_have_an_average_precision_of_one():
    judge = TASK.judge(SCENES.classes)
    for _, target in SCENES:
        judge.add([certain(target)], [target])
    scores = judge.scores()
    assert next(iter(scores)) == TASK.metric
    assert scores["AP50"] == scores["AP"] == scores["AP75"] == pytest.approx(1.0)


def test_missing_and_false_boxes_cost_and_crowds_do_not():
    true = box_target([[0, 0, 20, 20], [40, 40, 60, 60], [0, 40, 30, 70]], [1, 1, 1], [0, 0, 1])
    found = {"boxes": true["boxes"][[0, 2]], "labels": torch.ones(2, dtype=torch.int64), "scores": torch.ones(2)}
    judge = TASK.judge(("thing",))
    judge.add([found], [true])
    assert judge.scores()["AP50"] == pytest.approx(51 / 101, abs=1e-4)  # half of the recall, at 101 points


def test_crops_keep_what_is_seen_of_a_box():
    generator = torch.Generator().manual_seed(0)
    batch = SCENES.batch([0, 1, 2])
    for _ in range(8):
        images, targets = TASK.augmented(SCENES, batch, generator)
        for image, target in zip(images, targets, strict=True):
            assert image.shape == (3, 64, 64)
            assert 0 <= float(image.min()) <= float(image.max()) <= 1
            assert target.keys() == {"boxes", "labels"}
            assert (target["boxes"] >= 0).all()
            assert (target["boxes"] <= 64).all()
            assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
    first, again = (TASK.augmented(SCENES, batch, torch.Generator().manual_seed(1))[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_mirrored_image_has_its_boxes_mirrored():
    task = create_task("detection", {"flip": True})
    image = torch.zeros(3, 20, 40, dtype=torch.uint8)
    image[:, 5:10, 2:8] = 255
    target = box_target([[2, 5, 8, 10], [0, 0, 40, 20]], [1, 2], [0, 1])
    seen = set()
    for seed in range(8):
        (x,), (found,) = task.augmented(SCENES, ([image], [target]), torch.Generator().manual_seed(seed))
        ((x1, y1, x2, y2),) = found["boxes"].int().tolist()  # the crowd is left out
        assert (x[:, y1:y2, x1:x2] == 1).all()
        assert int((x > 0).sum()) == 3 * 5 * 6
        seen.add(x1)
    assert seen == {2, 32}


def test_a_teachers_maps_are_compared():
    torch.manual_seed(0)
    model = create("point_detector", width=8, tower=1)
    with torch.no_grad(), TASK.watch(model.eval()) as answer, TASK.watch(model) as again:
        found = model([torch.rand(3, 64, 64)])
    maps = answer(found)
    assert float(TASK.divergence(maps, again(found), 1.0)) == 0
    assert not any(module._forward_hooks for module in model.modules())
    changed = {name: value + 1 for name, value in maps.items()}
    assert float(TASK.divergence(changed, maps, 1.0)) > 0
    with pytest.raises(InputError, match="same form"):
        TASK.divergence({"a": maps["cls_logits"]}, maps, 1.0)
    with (
        pytest.raises(RecipeError, match="PointDetector has"),
        create_task("detection", {"taught": "heads"}).watch(model),
    ):
        pytest.fail("it is watched")


def test_models_and_options_that_do_not_fit_are_refused():
    with pytest.raises(RecipeError, match="list of images"):
        TASK.check(torch.nn.Identity(), SCENES, "model")
    with pytest.raises(RecipeError, match="learns from images with boxes"):
        TASK.require(object())
    with pytest.raises(InputError, match="least and the largest"):
        create_task("detection", {"scale": [2.0, 1.0]})
    with pytest.raises(InputError, match="did you mean crop"):
        create_task("detection", {"crup": 3})
