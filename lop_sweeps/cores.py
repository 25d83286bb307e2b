"""How many cores this process may use: not those of the machine, but those that it was given."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "SLURM_JOB_CPUS_PER_NODE")  # the nearest to the process first


def allotted(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """The least of: cores that the process is bound to, its control groups' share of time (rounded up: two workers on
    a core and a half are faster than one), and inside a SLURM job those of the job, even if it is not bound to them.

    root: where /proc and the control groups are.
    """
    limits = [_bound()]
    given = next((found for name in SLURM if (found := re.match(r"\d+", environment.get(name, "")))), None)
    limits += [int(given[0])] if given else []
    limits += [math.ceil(share) for share in _shares(root)]
    return max(1, min(limits))


def _bound() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; PYTHON_CPU_COUNT may say otherwise
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shares(root: Path) -> Iterator[float]:
    """Cores that the process's control groups and those around them may keep busy; nothing for one without a limit."""
    groups = list(_groups(root / "proc/self/cgroup"))
    for kind, options, top, place in _mounts(root / "proc/self/mountinfo"):
        for controllers, path in groups:
            mine = not controllers if kind == "cgroup2" else "cpu" in controllers and "cpu" in options
            if mine:
                folder = root / place.lstrip("/")
                for part in _from_the_top(_below(path, top)):
                    share = _share(folder / part, kind)
                    if share is not None:
                        yield share


def _groups(path: Path) -> Iterator[tuple[list[str], str]]:
    """(controllers of version 1, or none for version 2; group) of each line `4:cpu,cpuacct:/docker/1f` or `0::/a/b`."""
    for line in _lines(path):
        _, _, rest = line.partition(":")
        controllers, colon, group = rest.partition(":")
        if colon:
            yield [name for name in controllers.split(",") if name], group


def _mounts(path: Path) -> Iterator[tuple[str, list[str], str, str]]:
    """(cgroup or cgroup2, options, the group that it shows, place) of each mounted hierarchy."""
    for line in _lines(path):
        before, dash, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if dash and len(fields) > 4 and kinds and kinds[0] in ("cgroup", "cgroup2"):
            options = kinds[-1].split(",")
            yield kinds[0], options, _unescaped(fields[3]), _unescaped(fields[4])


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _below(group: str, top: str) -> PurePosixPath:
    """The group's folder in a hierarchy that is mounted from `top` down; in a container it may show its own only."""
    try:
        return PurePosixPath(group).relative_to(top)
    except ValueError:
        return PurePosixPath()


def _from_the_top(path: PurePosixPath) -> Iterator[PurePosixPath]:
    """`a/b` gives the top, a and a/b; what leads out of a namespace (`..`) cannot be followed."""
    parts = () if ".." in path.parts else path.parts
    for depth in range(len(parts) + 1):
        yield PurePosixPath(*parts[:depth])


def _share(folder: Path, kind: str) -> float | None:
    """Cores by the quota of one control group."""
    if kind == "cgroup2":
        numbers = " ".join(_lines(folder / "cpu.max")).split()  # "150000 100000", or "max 100000"
    else:
        numbers = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]  # -1: no limit
    try:
        quota, period = map(int, numbers)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
