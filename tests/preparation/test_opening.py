"""Opening images: whoever reads one refuses the same, and says why."""

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from convgate.data import ImageFiles, load
from convgate.data.scenes import read_scene_image
from convgate.errors import DataError
from convgate.preparation.pixels import pixels_of


def of_training(path):
    return ImageFiles([path], 8)[torch.tensor([0])]


def of_labels(path):
    """As the label image of an image that can be read."""
    root = path.parent / "pairs"
    for part in ("train", "test"):
        (root / part).mkdir(parents=True, exist_ok=True)
        (root / f"{part}_labels").mkdir(exist_ok=True)
        Image.new("L", (3, 3)).save(root / part / "a.png")
        (root / f"{part}_labels" / "a.png").write_bytes(path.read_bytes())
    return load("pairs", root=str(root), classes=["sky"]).train.scenes[0]


READERS = [lambda path: pixels_of(path, 3), of_training, read_scene_image, of_labels]


@pytest.fixture(params=READERS, ids=["prediction", "training", "scenes", "labels"])
def read(request):
    return request.param


def test_more_than_8_bits_are_refused(read, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((9, 9), 3000, np.uint16)).save(path)
    with pytest.raises(DataError, match=r"a\.png has more than 8 bits per channel \(Pillow's mode I;16\)"):
        read(path)


def test_what_is_far_too_large_is_refused(read, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("L", (9, 9)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with pytest.raises(DataError, match=r"a\.png cannot be read as an image: .* decompression bomb"):
        read(path)


def test_a_text_that_is_far_too_long_is_refused(read, tmp_path, monkeypatch):
    path, text = tmp_path / "a.png", PngImagePlugin.PngInfo()
    text.add_text("about", "x" * 1000, zip=True)
    Image.new("L", (9, 9)).save(path, pnginfo=text)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 10)
    with pytest.raises(DataError, match=r"a\.png cannot be read as an image"):
        read(path)
