"""Files of images that commands take: what they hold, and what is said of those that do not."""

import numpy as np
import pytest

from convgate.commands.arrays import images_of
from convgate.errors import InputError


def test_the_first_images_are_taken(tmp_path):
    images = np.random.default_rng(0).standard_normal((3, 1, 2, 2)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    assert (images_of(tmp_path / "images.npy", 2) == images[:2]).all()
    assert len(images_of(tmp_path / "images.npy", 9)) == 3


def _archive(path):
    with path.open("wb") as file:
        np.savez(file, one=np.zeros(3), two=np.zeros(3))


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (lambda path: None, "there is no file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("no numbers"), "not a .npy file"),
        (lambda path: path.write_bytes(b""), "not a .npy file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 no archive"), "not a .npy file"),
        (_archive, "archive of arrays"),
        (lambda path: np.save(path, np.float32(3)), r"of shape \[\]"),
        (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "not a .npy file"),
    ],
    ids=["none", "folder", "text", "empty", "broken archive", "archive", "a number", "objects"],
)
def test_other_files_are_refused_with_what_is_needed(tmp_path, write, match):
    path = tmp_path / "images.npy"
    write(path)
    with pytest.raises(InputError, match=match) as refused:
        images_of(path, 1)
    assert str(path) in str(refused.value)
    assert "float32 [N, C, H, W]" in str(refused.value)
    assert "pickle" not in str(refused.value)
