"""A SLURM of our own for the tests marked `slurm`: brought up by the first of them, taken down after the last."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "cluster.sh"
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its folder. The environment points to it meanwhile."""
    if missing := [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]:
        pytest.skip(f"no {', '.join(missing)} here (Debian: slurm-wlm, munge)")
    if os.geteuid() != 0:
        pytest.skip("only root can start a SLURM of its own")
    folder = tmp_path_factory.mktemp("cluster")
    before = dict(os.environ)
    os.environ["PATH"] = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    try:
        subprocess.run([SCRIPT, "start", folder], check=True, timeout=60)
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        yield folder
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=False, timeout=60)
        os.environ.clear()
        os.environ.update(before)
