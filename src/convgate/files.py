"""Files that appear complete or not at all."""

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convgate.errors import InputError

__all__ = ["PROGRAM_KEY", "check_folder", "check_target", "new_folder", "replacing", "write_text"]

PROGRAM_KEY = "convgate.program"
"""Under which the metadata of a .cgm file have its program. What reads other files knows it for a .cgm file by this."""


def check_target(path: str | Path) -> None:
    """Raise `InputError` for a path that no file can be written to: that of a folder, or in one that cannot be made.

    Nor is a file written where there is a device, a pipe or a socket, which it would replace. For commands that compute
    for long before they write; `replacing` checks it, too.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the file in it that is to be written")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a device, a pipe or a socket; name a file, which replaces one that is there")
    _check_takes_files(path, Path(os.path.realpath(path)).parent)


def check_folder(path: str | Path) -> None:
    """Raise `InputError` for a path that no folder with files can be at. For commands that compute for long before."""
    _check_takes_files(Path(path), Path(os.path.realpath(path)))


def _check_takes_files(path: Path, folder: Path) -> None:
    """Raise `InputError`, about `path`, for a folder that is none, takes no files or cannot be made."""
    there = next(found for found in (folder, *folder.parents) if found.exists())
    if not there.is_dir():
        raise InputError(f"{path} cannot be written: {there} is a file, not a folder; choose another path")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: {there} takes no files from you; choose another path")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder. On success it replaces `path`; on failure it is deleted.

    Where `path` is a link, what it leads to is replaced, and the link stays. Raises `InputError` where `path` cannot be
    written.
    """
    path = Path(path)
    check_target(path)
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # With an ordinary file's permissions: the system subtracts the umask. Whoever writes may put another file there.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # or a crash could leave the name without the content
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError:
        raise
    except Exception as error:
        _raise_refused(temporary, path, error)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _raise_refused(temporary: Path, path: Path, error: Exception) -> None:
    """Raise the system's `OSError` if it takes no more of the file; native code reports that as errors of its own."""
    try:
        with temporary.open("ab") as file:
            file.write(bytes(1 << 20))
            os.fsync(file.fileno())
    except OSError as refused:
        raise OSError(refused.errno, os.strerror(refused.errno or 0), str(path)) from error


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder to fill. On success `path` holds what is in it; on failure, nothing of it.

    Raises `InputError` where there is something in `path` already, or it cannot be written.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path} is a folder with files in it; give a new one, or an empty one")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give a new folder, or an empty one")
    _check_takes_files(path, path.absolute().parent)
    name = f".{path.name}.{secrets.token_hex(8)}"
    # In an empty folder that is there, since that may be the one that its owner works in, or a mounted one.
    temporary = path / name if path.is_dir() else path.with_name(name)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if temporary.parent != path:
            os.replace(temporary, path)
            return
        for inside in list(temporary.iterdir()):
            os.replace(inside, path / inside.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file in one piece."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
