import os
import pickle

import numpy as np
import pytest
from PIL import Image

from convgate.data import cifar10, cifar100
from convgate.errors import DataError, InputError

NAMES = [f"class{i:02d}" for i in range(10)]


def arrays(n=30, n_test=20, names=NAMES):
    rng = np.random.default_rng(0)

    def pixels(count):
        return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)

    return {
        "train_x": pixels(n), "train_y": np.arange(n) % len(names),
        "test_x": pixels(n_test), "test_y": np.arange(n_test) % len(names), "classes": np.array(names),
    }  # fmt: skip


def as_npz(path, data):
    np.savez(path / "cifar.npz", **data)
    return path / "cifar.npz"


def as_folders(path, data):
    for part in ("train", "test"):
        for i, (image, label) in enumerate(zip(data[f"{part}_x"], data[f"{part}_y"], strict=True)):
            folder = path / part / str(data["classes"][label])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i:05d}.png")
    return path


def check_same(splits, data):
    """Every image of `data` is there once, with its label."""

    def known(images, labels):
        return sorted((x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True))

    def found(*parts):
        return [pair for s in parts for pair in zip(s.images.permute(0, 2, 3, 1).numpy(), s.labels, strict=True)]

    assert known(*zip(*found(splits.train, splits.validation), strict=True)) == known(data["train_x"], data["train_y"])
    assert known(*zip(*found(splits.test), strict=True)) == known(data["test_x"], data["test_y"])


@pytest.mark.parametrize("write", [as_npz, as_folders])
def test_the_forms_give_the_same_data(write, tmp_path):
    data = arrays()
    splits = cifar10(write(tmp_path, data), validation=10)
    assert splits.name == "cifar10"
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 10, 20]
    assert splits.train.classes == tuple(NAMES)
    assert splits.train.mean == (0.4914, 0.4822, 0.4465)
    assert splits.test.std == (0.2470, 0.2435, 0.2616)
    check_same(splits, data)


def test_the_files_of_torchvision_are_read(tmp_path, monkeypatch):
    data = arrays()
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    parts = {f"data_batch_{i + 1}": ("train", slice(6 * i, 6 * i + 6)) for i in range(5)}
    for name, (part, some) in (parts | {"test_batch": ("test", slice(None))}).items():
        rows = data[f"{part}_x"][some].transpose(0, 3, 1, 2).reshape(-1, 3072)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": data[f"{part}_y"][some].tolist()}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    check_same(cifar10(tmp_path, validation=10), data)


def test_validation_is_drawn_by_the_seed(tmp_path):
    root = as_npz(tmp_path, arrays())
    first, again, other = (cifar10(root, validation=10, seed=seed).validation for seed in (0, 0, 1))
    assert (first.images == again.images).all()
    assert (first.images != other.images).any()
    for n in (-1, 30):
        with pytest.raises(InputError, match=r"\[0, 29\]"):
            cifar10(root, validation=n)


def test_none_held_out_leaves_all_to_learn_from(tmp_path):
    root = as_npz(tmp_path, arrays())
    whole, held = cifar10(root, validation=0), cifar10(root, validation=10)
    assert (len(whole.train), whole.holds_out) == (30, False)
    assert (len(held.train), held.holds_out) == (20, True)


def test_cifar100_has_its_own_classes_and_statistics(tmp_path):
    names = [f"fine{i:02d}" for i in range(100)]
    splits = cifar100(as_npz(tmp_path, arrays(200, 100, names)), validation=50)
    assert splits.name == "cifar100"
    assert splits.train.classes == tuple(names)
    assert splits.train.mean == (0.5071, 0.4865, 0.4409)
    with pytest.raises(DataError, match="100 classes, CIFAR10 has 10"):
        cifar10(tmp_path / "cifar.npz", validation=50)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.npz", "."])
def test_a_path_without_data_names_the_three_forms(name, tmp_path):
    with pytest.raises(DataError, match=r"\.npz file.*train_x.*train/<class>.*torchvision's CIFAR10"):
        cifar10(tmp_path / name)


def test_a_form_that_is_incomplete_or_damaged_is_refused(tmp_path):
    data = arrays()
    without = {k: v for k, v in data.items() if k != "test_y"}
    with pytest.raises(DataError, match="lacks test_y"):
        cifar10(as_npz(tmp_path, without))
    for change, message in (
        ({"train_x": data["train_x"][:, :16]}, r"train images are uint8 \(30, 16, 32, 3\)"),
        ({"test_x": data["test_x"].astype(np.float32)}, "test images are float32"),
        ({"train_y": data["train_y"].astype(np.float32)}, "train labels are float32"),
        ({"train_y": data["train_y"][:-1]}, r"shape \[30\]"),
        ({"train_y": data["train_y"] + 1}, "labels run from 1 to 10"),
        ({"classes": np.array(NAMES, dtype=object)}, "plain arrays"),
    ):
        with pytest.raises(DataError, match=message):
            cifar10(as_npz(tmp_path, data | change), validation=5)
    whole = as_npz(tmp_path, data).read_bytes()
    for damaged in (whole[:1000], b"", b"no zip"):
        (tmp_path / "cifar.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"cannot be read as an \.npz"):
            cifar10(tmp_path / "cifar.npz")
    np.save(tmp_path / "one.npy", data["train_x"])
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(DataError, match=r"cannot be read as an \.npz"):
        cifar10(tmp_path / "one.npz")


def test_folders_that_do_not_fit_are_refused(tmp_path):
    root = as_folders(tmp_path, arrays())
    image = next((root / "train" / NAMES[0]).iterdir())
    Image.new("RGB", (16, 16)).save(image)
    with pytest.raises(DataError, match="32x32 images"):
        cifar10(root, validation=5)
    image.write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read"):
        cifar10(root, validation=5)
    (root / "test" / NAMES[3]).rename(root / "test" / "other")
    with pytest.raises(DataError, match="class folders class03, other"):
        cifar10(root, validation=5)


@pytest.mark.skipif(
    "CONVGATE_CIFAR10" not in os.environ,
    reason="needs CIFAR-10: set CONVGATE_CIFAR10 to an .npz file, image folder or torchvision folder that holds it",
)
def test_the_real_cifar10():
    splits = cifar10(os.environ["CONVGATE_CIFAR10"])
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [45000, 5000, 10000]
    assert splits.test.labels.bincount().tolist() == [1000] * 10
    pixels = splits.train.images.double() / 255
    assert splits.train.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=2e-3)
    assert splits.train.std == pytest.approx(pixels.std((0, 2, 3)).tolist(), abs=2e-3)


def test_the_statistics_of_given_weights_replace_those_of_the_data(tmp_path):
    path = as_npz(tmp_path, arrays())
    splits = cifar10(path, validation=10, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1])
    for part in (splits.train, splits.validation, splits.test):
        assert part.mean == (0.5, 0.4, 0.3)
        assert part.std == (0.2, 0.2, 0.1)
    with pytest.raises(DataError, match="3 channels"):
        cifar10(path, validation=10, mean=[0.5])
