"""How many cores a process may use, on made-up control groups (case 5.11)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from lop_sweeps import cores

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 30 0:27 {top} /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def machine(root: Path, group: str, mounts: str, files: Mapping[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": group, "proc/self/mountinfo": mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_bound", lambda: 64)


@pytest.mark.parametrize(
    ("group", "mounts", "files", "expected"),
    [
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),  # a pod sees its own group as the top
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "nonsense\n"}, 64),
        ("0::/../../other\n", V2, {"sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        (  # the least of all groups around the process
            "0::/a/b/c\n",
            V2,
            {
                "sys/fs/cgroup/a/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/a/b/c/cpu.max": "max 100000\n",
            },
            4,
        ),
        (  # docker: the mount begins at the container's group
            "4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n",
            OTHER + V1.format(top="/docker/1f"),
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/memory/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            "3:cpu,cpuacct:/slice/job\n0::/\n",
            V1.format(top="/") + V2,
            {
                "sys/fs/cgroup/cpu,cpuacct/slice/cpu.cfs_quota_us": "500000\n",
                "sys/fs/cgroup/cpu,cpuacct/slice/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/slice/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/slice/job/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        ("", "", {}, 64),
        ("no line of it\n", "nor of this\n", {}, 64),
    ],
)
def test_cores_are_those_of_the_control_groups(
    tmp_path: Path, group: str, mounts: str, files: Mapping[str, str], expected: int
) -> None:
    assert cores.allotted({}, machine(tmp_path, group, mounts, files)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 64),
        ({"SLURM_CPUS_PER_TASK": "1"}, 1),
        ({"SLURM_JOB_CPUS_PER_NODE": "2(x3),4"}, 2),
        ({"SLURM_CPUS_PER_TASK": "", "SLURM_CPUS_ON_NODE": "6", "SLURM_JOB_CPUS_PER_NODE": "2,6"}, 6),
        ({"SLURM_CPUS_PER_TASK": "128"}, 64),
    ],
)
def test_cores_are_those_that_slurm_allots(tmp_path: Path, given: Mapping[str, str], expected: int) -> None:
    assert cores.allotted(given, tmp_path) == expected


def test_cores_are_those_that_the_process_is_bound_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_bound", lambda: 3)
    assert cores.allotted({}, tmp_path) == 3
    assert cores.allotted() >= 1
