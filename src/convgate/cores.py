"""How many cores this process may use: those of its affinity mask, but no more than a container's CPU quota."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["cpu_quota", "usable_cores"]


def usable_cores(root: Path = Path("/")) -> int:
    """How many cores this process may use, at least 1. `root` is where the system's files are."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    # Rounded down: a thread that waits for its share of a core holds up all others.
    return max(1, int(min(cores, cpu_quota(root) or cores)))


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
