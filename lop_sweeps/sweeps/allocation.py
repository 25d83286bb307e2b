"""Submitting from inside an allocation (`salloc`, `srun --pty`, a job): its jobs are not parts of it.

`sbatch` hands the whole environment on, so that a job would be bound to the CPUs of the allocation that it came from,
and `srun` inside it would be given two limits of memory that exclude each other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

# Set by SLURM for what runs in an allocation. Other SBATCH_ variables are the user's own defaults, such as an account.
SET = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_CPU_BIND", "SBATCH_MEM_BIND", "SUBMITIT_", "PMI_", "PMIX_")
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_TIME_FORMAT")  # say where and how SLURM is spoken to


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Meanwhile the environment has nothing of the allocation that this process may run in."""
    found = {name: value for name, value in os.environ.items() if name.startswith(SET) and name not in KEPT}
    for name in found:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(found)
