"""Scenes of every format: read as they are written, and refused where they are not."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from convgate.data import IGNORED, Batches, BoxSet, Splits, digit_scenes, load
from convgate.errors import DataError, InputError

SMALL = {"train": 6, "validation": 2, "test": 2, "least": 64, "most": 96, "digits": 3}


def picture(path, mode="RGB", size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    Image.fromarray(pixels.squeeze(), mode).save(path) if channels == 1 else Image.fromarray(pixels).save(path)


def test_digit_scenes_follow_from_the_seed_and_have_their_boxes():
    first, again = (digit_scenes(**SMALL).train for _ in range(2))
    other = digit_scenes(**SMALL, seed=1).train
    for number, (image, target) in enumerate(first):
        same, boxes = again.scenes[number]
        assert torch.equal(image, same)
        assert torch.equal(target["boxes"], boxes["boxes"])
        assert image.dtype == torch.uint8
        height, width = image.shape[1:]
        assert 64 <= min(height, width) <= max(height, width) <= 96
        x1, y1, x2, y2 = target["boxes"].T
        assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= width).all() and (y2 <= height).all()  # noqa: PT018
        assert 1 <= len(x1) <= 3
        assert set(target["labels"].tolist()) <= set(range(1, 11))
    assert not torch.equal(first.scenes[0][0][:, :64, :64], other.scenes[0][0][:, :64, :64])


def test_batches_of_scenes_are_lists_in_an_order_of_seed_and_epoch():
    scenes = digit_scenes(**SMALL).train
    batches = Batches(scenes, 4, seed=3, shuffle=True, drop_last=True, workers=0)
    ((images, targets),) = batches
    assert (len(images), len(targets)) == (4, 4)
    ((again, _),) = Batches(scenes, 4, seed=3, shuffle=True, drop_last=True, workers=0)
    assert all(torch.equal(a, b) for a, b in zip(images, again, strict=True))
    assert len(scenes.take(2, seed=0)) == 2
    with pytest.raises(InputError, match="in \\[1, 6\\]"):
        scenes.take(9, seed=0)


def coco_file(folder, **changes):
    boxes = [
        {"image_id": 7, "category_id": 18, "bbox": [2, 3, 5, 30], "iscrowd": 1},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 4, 0], "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": boxes,
        **changes,
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    for name in ("a", "b"):
        picture(folder / "images" / f"{name}.png")
    return {"train": "boxes.json", "test": "boxes.json", "train_images": "images", "test_images": "images"}


def test_coco(tmp_path):
    splits = load("coco", root=str(tmp_path), **coco_file(tmp_path))
    assert splits.train.classes == ("car", "dog")  # by their ids
    image, target = splits.train.scenes[0]
    assert image.shape == (3, 16, 20)
    assert target["boxes"].tolist() == [[2, 3, 7, 16]]  # within the image; what has no area is left out
    assert (target["labels"].tolist(), target["iscrowd"].tolist()) == ([2], [1])
    assert splits.train.scenes[1][1]["boxes"].shape == (0, 4)
    assert splits.validation is splits.train
    with pytest.raises(DataError, match=r"images \(id, file_name\)"):
        load("coco", root=str(tmp_path), **coco_file(tmp_path, images=[{"id": 7}]))
    with pytest.raises(DataError, match="cannot be read"):
        load("coco", root=str(tmp_path / "nowhere"))


def test_yolo(tmp_path):
    for part in ("train", "val"):
        for name in ("a", "b"):
            picture(tmp_path / "images" / part / f"{name}.png", "L")
    labels = tmp_path / "labels" / "train" / "a.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("1 0.5 0.5 0.5 0.25\n\n0 0.1 0.5 0.4 1\n")
    (tmp_path / "data.yaml").write_text("names: {0: car, 1: dog}\n")
    splits = load("yolo", root=str(tmp_path), validation=1)
    assert (len(splits.train), len(splits.validation)) == (1, 1)
    whole = load("yolo", root=str(tmp_path), classes=["car", "dog"]).train
    image, target = whole.scenes[0]
    assert image.shape == (3, 16, 20)  # grey becomes RGB
    assert target["boxes"].tolist() == [[5, 6, 15, 10], [0, 0, 6, 16]]
    assert target["labels"].tolist() == [2, 1]
    assert len(whole.scenes[1][1]["labels"]) == 0
    labels.write_text("2 0.5 0.5 0.5 0.25\n")
    with pytest.raises(DataError, match="not one of the 2"):
        whole.scenes[0]
    for content, match in (
        (b"1 0.5 0.5 0.5\n\n0 0.1 0.5 0.4 1 1\n", r"a\.txt, line 1: it has 4 words"),  # ten numbers, but no two boxes
        (b"\n1 0.5 0.5 0.5 0.25\n0 0.1 0.5 0.4 x\n", r"a\.txt, line 3: .*'x'"),
        (b"1 0.5 0.5 0.5 0.25 # \xff\n", r"a\.txt cannot be read"),
    ):
        labels.write_bytes(content)
        with pytest.raises(DataError, match=match):
            whole.scenes[0]


def test_pairs(tmp_path):
    for part in ("train", "test"):
        picture(tmp_path / part / "a.png", "RGBA")
        label = np.zeros((16, 20), np.uint8)
        label[0, :3] = (1, 2, 11)
        (tmp_path / f"{part}_labels").mkdir()
        Image.fromarray(label).save(tmp_path / f"{part}_labels" / "a.png")
    splits = load("pairs", root=str(tmp_path), classes=["sky", "road", "car"])
    image, mask = splits.train.scenes[0]
    assert image.shape == (3, 16, 20)
    assert mask[0, :4].tolist() == [1, 2, IGNORED, 0]
    with pytest.raises(DataError, match="kind of train"):
        Splits("both", splits.train, splits.train, digit_scenes(**SMALL).test)
    (tmp_path / "test_labels" / "a.png").unlink()
    with pytest.raises(DataError, match="no label image"):
        load("pairs", root=str(tmp_path), classes=["sky", "road", "car"])


def test_cityscapes_and_voc_by_their_trees(tmp_path):
    for part in ("train", "val"):
        picture(tmp_path / "leftImg8bit" / part / "bonn" / "bonn_0_leftImg8bit.png")
        label = tmp_path / "gtFine" / part / "bonn" / "bonn_0_gtFine_labelIds.png"
        label.parent.mkdir(parents=True)
        Image.fromarray(np.full((16, 20), 33, np.uint8)).save(label)
        (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (tmp_path / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("one\n")
    picture(tmp_path / "JPEGImages" / "one.jpg")
    (tmp_path / "SegmentationClass").mkdir()
    palette = Image.fromarray(np.full((16, 20), 15, np.uint8)).convert("P")
    palette.putdata([15] * 320)
    palette.save(tmp_path / "SegmentationClass" / "one.png")
    cities, voc = (load(name, root=str(tmp_path)) for name in ("cityscapes", "voc_segmentation"))
    assert cities.test.classes[int(cities.test.scenes[0][1][0, 0])] == "bicycle"
    assert voc.train.classes[int(voc.train.scenes[0][1][0, 0])] == "person"


def test_a_set_without_scenes_is_refused():
    with pytest.raises(DataError, match="0 images"):
        BoxSet([], ("car",))
