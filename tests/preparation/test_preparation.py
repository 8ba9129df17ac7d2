"""Preparing photographs: as torchvision and timm do it, whatever the image; refused where it cannot be done."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convgate.errors import DataError, InputError
from convgate.models import preparation_of, prepared_at
from convgate.preparation import Preparation
from convgate.preparation.files import images_in

RANDOM = np.random.default_rng(0)
SMALL = Preparation((8, 8), 9, classes=("cat", "dog"))

SIZES = [(480, 640), (300, 200), (224, 224), (40, 30), (1, 1), (3, 90)]


def photograph(height, width):
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "inception_v3"])
def test_it_is_what_torchvision_does(name, size):
    import torchvision

    image = photograph(*size)
    transforms = next(iter(torchvision.models.get_model_weights(name))).transforms()
    # The same pixels; the normalised values differ by float32's rounding.
    assert np.abs(preparation_of(name).read([image])[0] - transforms(image).numpy()).max() < 1e-6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_efficientnet_lite0", "resnet50", "vit_base_patch16_clip_224"])
def test_it_is_what_timm_does(name, size):
    import timm
    from timm.data import create_transform, resolve_data_config

    image = photograph(*size)
    transform = create_transform(**resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()))
    assert np.abs(preparation_of(f"timm/{name}").read([image])[0] - transform(image).numpy()).max() < 1e-6


def test_without_pillow_arrays_become_the_same():
    pixels = RANDOM.integers(0, 256, (40, 50, 3), np.uint8)
    expected = SMALL.read([pixels])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "PIL", None)
        np.testing.assert_array_equal(SMALL.read([pixels]), expected)
        with pytest.raises(ImportError, match=r"pip install 'convgate\[images\]'"):
            SMALL.read(["a.png"])


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "YCbCr"])
def test_every_kind_of_image_is_brought_to_colours(mode, tmp_path):
    image = photograph(20, 30).convert(mode)
    path = tmp_path / f"image.{'tiff' if mode in ('CMYK', 'YCbCr') else 'png'}"
    image.save(path)
    np.testing.assert_array_equal(SMALL.read([path])[0], SMALL.read([np.asarray(image.convert("RGB"))])[0])


def test_a_grey_network_is_given_grey_images():
    grey = Preparation((8, 8), (8, 8), mean=(0.5,), std=(0.5,))
    assert grey.read([photograph(20, 30), RANDOM.integers(0, 256, (9, 9), np.uint8)]).shape == (2, 1, 8, 8)


def test_what_is_no_image_is_named(tmp_path):
    whole = tmp_path / "whole.jpg"
    photograph(40, 40).save(whole)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(whole.read_bytes()[:400])
    text = tmp_path / "text.png"
    text.write_text("hello")
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(deep)
    for path, says in ((broken, "broken.jpg"), (text, "text.png"), (deep, "8 bits"), (tmp_path / "no.png", "no file")):
        with pytest.raises(DataError, match=says):
            SMALL.read([path])
    with pytest.raises(DataError, match="too narrow"):
        SMALL.read([np.zeros((1, 100, 3), np.uint8)])
    with pytest.raises(DataError, match="float32"):
        SMALL.read([np.zeros((9, 9, 3), np.float32)])
    with pytest.raises(InputError, match="write read"):
        SMALL.read("cat.jpg")
    with pytest.raises(InputError, match="no images"):
        SMALL.read([])


def test_a_folder_lists_its_images(tmp_path):
    for name in ("b/2.PNG", "a/1.jpg", ".hidden/3.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in images_in(tmp_path)] == ["1.jpg", "2.PNG"]
    with pytest.raises(DataError, match="not there"):
        images_in(tmp_path / "nothing")
    with pytest.raises(DataError, match="is a file"):
        images_in(tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        images_in(tmp_path / "empty")


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    for name in ("elsewhere/dog/1.png", "root/cat/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    root = tmp_path / "root"
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (root / "hound").symlink_to(tmp_path / "elsewhere" / "dog")  # the same once more is no loop
    (root / "cat" / "back").symlink_to(root)
    (tmp_path / "elsewhere" / "dog" / "around").symlink_to(root)
    found = [path.relative_to(root).as_posix() for path in images_in(root)]
    assert found == ["cat/2.png", "dog/1.png", "hound/1.png"]


def test_the_likeliest_classes_come_first():
    assert SMALL.top(np.array([0.0, 2.0]), 5) == [("dog", 0.881), ("cat", 0.119)]
    assert replace(SMALL, classes=()).top(np.array([0.0, 2.0]), 1) == [("1", 0.881)]
    with pytest.raises(InputError, match="one image"):
        SMALL.top(np.zeros((1, 2)))


def test_another_size_keeps_the_proportion():
    assert prepared_at(preparation_of("resnet18"), 112).resize == 128
    whole = Preparation((224, 224), (224, 224))
    assert prepared_at(whole, 112) == Preparation((112, 112), (112, 112))


def test_it_is_plain_data():
    for preparation in (SMALL, Preparation((8, 6), (9, 7), "bicubic", (0.5,), (0.25,))):
        assert Preparation.from_data(json.loads(json.dumps(preparation.as_data()))) == preparation


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (0, 8)},
        {"size": (8, 2**20)},
        {"size": [8, 8]},
        {"size": 8},
        {"resize": True},
        {"resize": 8.0},
        {"resize": (8, 8, 8)},
        {"interpolation": "magic"},
        {"mean": (0.5,)},
        {"mean": (0.5,) * 2, "std": (0.5,) * 2},
        {"mean": (float("nan"),) * 3},
        {"mean": (10**400,) * 3},
        {"std": (float("inf"),) * 3},
        {"mean": ("0.5",) * 3},
        {"std": (0.0,) * 3},
        {"classes": ("",)},
        {"classes": (1,)},
        {"classes": ("x" * 2000,)},
    ],
)
def test_values_that_make_no_sense_are_refused(changes):
    with pytest.raises(InputError):
        replace(SMALL, **changes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(SMALL.as_data())), JSON, st.booleans())
def test_whatever_a_file_holds_is_a_preparation_or_an_input_error(field, value, drop):
    data = SMALL.as_data() | {field: value}
    if drop:
        del data[field]
    try:
        Preparation.from_data(data)
    except InputError:
        return
    assert not drop
