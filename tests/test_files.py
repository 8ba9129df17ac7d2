import os
import stat
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from safetensors.numpy import save_file

from convgate.errors import InputError
from convgate.files import check_folder, check_target, new_folder, replacing, write_text


def test_a_file_appears_when_the_block_succeeds(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with replacing(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["file.txt"]


@contextmanager
def files_of_at_most(size):
    """The system takes no more of a file, as where a disk is full."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="sizes of files cannot be limited there")
def test_what_the_system_refuses_is_said_its_way_whoever_writes(tmp_path):
    target = tmp_path / "weights.safetensors"
    write_text(target, "old")

    def write():
        with replacing(target) as temporary:
            save_file({"w": np.zeros(1 << 18, np.float32)}, temporary)

    with files_of_at_most(1 << 16), pytest.raises(OSError, match=r"weights\.safetensors") as raised:
        write()
    assert raised.value.filename == str(target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == [target.name]


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "file.txt"
    write_text(target, "old")

    def fail_halfway():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_permissions_are_an_ordinary_files(tmp_path):
    write_text(tmp_path / "ours", "")
    (tmp_path / "theirs").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "theirs")]
    assert modes[0] == modes[1]


def test_what_cannot_be_written_is_told_by_its_own_name(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path, match in ((tmp_path / "folder", "is a folder"), (tmp_path / "file" / "new" / "x", "is a file, not a")):
        with pytest.raises(InputError, match=match) as refused:
            write_text(path, "")
        assert str(refused.value).startswith(str(path))
        with pytest.raises(InputError, match=match):
            check_target(path)
    check_target(tmp_path / "new" / "x")
    assert not (tmp_path / "new").exists()


def test_what_is_no_file_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        for refuses in (check_target, lambda path: write_text(path, "")):
            with pytest.raises(InputError, match=f"{path} is a device, a pipe or a socket"):
                refuses(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path, there):
    target, link, farther = tmp_path / "elsewhere" / "file", tmp_path / "link", tmp_path / "farther"
    if there:
        write_text(target, "old")
    link.symlink_to(target)
    farther.symlink_to("link")
    with replacing(farther) as temporary:
        assert temporary.parent == target.parent
        temporary.write_text("new")
    assert farther.is_symlink()
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["file"]


def test_the_folder_that_a_link_leads_to_must_take_files(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file" / "inside")
    with pytest.raises(InputError, match=r"link cannot be written: .*file is a file"):
        check_target(tmp_path / "link")


def test_a_folder_that_cannot_be_is_told_of(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(InputError, match=f"^{path} cannot be written: .*file is a file, not a folder"):
            check_folder(path)
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "folder")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_is_filled_completely_or_not_at_all(tmp_path, there):
    target = tmp_path / "one" / "folder"
    if there:
        target.mkdir(parents=True)

    def fail_halfway():
        with new_folder(target) as temporary:
            write_text(temporary / "half", "")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert not target.exists() or not os.listdir(target)
    with new_folder(target) as temporary:
        write_text(temporary / "inner" / "file", "whole")
        write_text(temporary / "other", "")
        assert not (target / "other").exists()
    assert sorted(os.listdir(target)) == ["inner", "other"]
    assert os.listdir(target.parent) == ["folder"]
    for path, match in ((target, "with files in it"), (target / "other", "is a file")):
        with pytest.raises(InputError, match=match), new_folder(path):
            pytest.fail("it is filled")
