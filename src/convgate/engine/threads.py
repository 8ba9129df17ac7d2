"""How many threads an engine uses: what was asked for, or what this process may use of the machine.

A process may use the cores of its affinity mask, but no more than its control groups' CPU quota (containers have one),
and no more than OMP_NUM_THREADS, which users set for all libraries together.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from convgate.errors import InputError

__all__ = ["available_cores", "choose_threads", "cpu_quota"]

_MOST = 1024


def choose_threads(asked: int | None) -> int:
    """The number asked for, by the argument or by CONVGATE_THREADS, or else `available_cores`.

    Raises `InputError` for what is not a number of threads.
    """
    value: Any = asked if asked is not None else os.environ.get("CONVGATE_THREADS")
    if value is None:
        return min(available_cores(), _MOST)
    try:
        threads = int(value)
    except (TypeError, ValueError):
        threads = 0
    if not 1 <= threads <= _MOST:
        raise InputError(f"threads={value!r}: give a number from 1 to {_MOST}, or none for one per available core")
    return threads


def available_cores(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """How many cores this process may use, at least 1. `root` is where the system's files are."""
    affinity = getattr(os, "sched_getaffinity", None)
    limits = [float(len(affinity(0)) if affinity else os.cpu_count() or 1)]
    quota = cpu_quota(root)
    if quota is not None:
        limits.append(quota)
    # OpenMP's variable may be a list, of which the first number is the outermost level's.
    first = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        limits.append(float(first))
    # Rounded down: a thread that waits for its share of a core holds up all others.
    return max(1, int(min(limits)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores that the process's control groups allow, the least of all levels; None without a limit.

    Version 2 has a file `cpu.max` ("quota period" in microseconds, or "max period"), version 1 the two files
    `cpu.cfs_quota_us` (-1 for none) and `cpu.cfs_period_us`.
    """
    shares = [share for folder in _groups(root) if (share := _share(folder)) is not None]
    return min(shares, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, with all above them."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        # Version 1 is mounted by controller. A container may see its own group as the root of the mount.
        tops = [mount] if not controllers else [mount / controllers, mount / "cpu"]
        inside = PurePosixPath(path.lstrip("/"))
        for top in tops:
            yield from (top / level for level in (inside, *inside.parents) if ".." not in level.parts)


def _share(folder: Path) -> float | None:
    quota, period, *_ = (*_read(folder / "cpu.max").split(), "", "")
    if not quota:
        quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if not quota.isdecimal() or not period.isdecimal() or int(quota) == 0 or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
