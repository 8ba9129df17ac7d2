"""Cores that a process may use: affinity, and the CPU quota of a container."""

import os

import pytest
import torch

from convgate.cores import cpu_quota, usable_cores
from convgate.data import Batches, ImageFiles, ImageSet
from convgate.engine.threads import available_cores
from convgate.timing.machine import machine


def write(root, **files):
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


VERSION2 = {"proc/self/cgroup": "0::/a/b\n"}
VERSION1 = {"proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n1:name=systemd:/\n"}
CASES = {
    "nothing": ({}, None),
    "version 2": (VERSION2 | {"sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
    "version 2, without a limit": (VERSION2 | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
    "version 2, a level above": (
        VERSION2 | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "50000 100000"},
        0.5,
    ),
    "version 2, in a container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
    "version 2, from outside": ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
    "version 1": (
        VERSION1
        | {
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "version 1, in a container": (
        VERSION1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "25000"},
        2,
    ),
    "version 1, without a limit": (
        VERSION1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
        None,
    ),
    "nonsense": (VERSION2 | {"sys/fs/cgroup/a/b/cpu.max": "many", "sys/fs/cgroup/cpu.max": "1 0"}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_quotas_of_containers(case, tmp_path):
    files, quota = CASES[case]
    write(tmp_path, **files)
    assert cpu_quota(tmp_path) == quota
    cores = len(os.sched_getaffinity(0))
    assert usable_cores(tmp_path) == available_cores({}, tmp_path) == max(1, int(min(cores, quota or cores)))


def test_whoever_counts_cores_minds_the_quota(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr("convgate.cores.cpu_quota", lambda root: 2.5)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of threads, not of processes that read images
    images = ImageSet(
        ImageFiles([tmp_path / "a.jpg"], 8), torch.zeros(1, dtype=torch.int64), ("a",), (0.5,) * 3, (0.5,) * 3
    )
    assert Batches(images, 1).workers == 2
    assert machine(1)["cores"] == 2
    assert available_cores() == 1
