"""What a large sweep costs before and while it runs: planning, handing over to SLURM, reading its status.

python perf/sweep.py [--quick] [--runs N] [--json FILE]

SLURM is a stand-in that takes jobs and does nothing, so that what is measured is ours. Times are of one go, on one
core; memory is the process's largest. Four times the runs should take four times as long: a quarter is measured, too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read at import

import submitit.slurm.slurm
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from hydra_plugins.lop_sweeps import SlurmLauncher, register
from lop_sweeps.sweeps import slurm
from lop_sweeps.sweeps.composer import Composer
from lop_sweeps.sweeps.expansion import expand
from lop_sweeps.sweeps.planning import Plan, Point, make_plan
from lop_sweeps.sweeps.status import summarise

RUNS, CONFIGURATIONS = 10_000, 10


class Nobody:
    """An executor that takes every job and runs none."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.jobs = folder, 0

    def update_parameters(self, **parameters: Any) -> None:
        """Nobody needs them."""

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def submit(self, job: Any) -> Any:
        self.jobs += 1
        return SimpleNamespace(job_id=f"1_{self.jobs}", paths=SimpleNamespace(stdout=self.folder / "log.out"))


def points_of(runs: int, folder: Path) -> list[Point]:
    register()
    with initialize_config_module("lop_sweeps.conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        composer = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))
        sizes = ",".join(f"{0.001 * (i + 1):.3f}" for i in range(CONFIGURATIONS))
        line = [f"seed=range({runs // CONFIGURATIONS})", f"optimizer.step_size={sizes}", f"paths.sweeps={folder}"]
        return [composer.point(name, overrides) for name, overrides in expand(loader, {None: []}, {}, line)]


def measure(runs: int) -> dict[str, float]:
    """Seconds of each part, for a sweep of so many runs."""
    taken: dict[str, float] = {"runs": runs}

    def timed(name: str, do: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = do()
        taken[name] = time.perf_counter() - start
        return result

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        points = timed("compose", lambda: points_of(runs, folder))
        plan: Plan = timed("plan", lambda: make_plan(points, len(points), 20, 1))
        launcher = SlurmLauncher(cpus=2)
        jobs = list(slurm.make_jobs(plan, launcher))
        arrays = [jobs[at : at + 1_000] for at in range(0, len(jobs), 1_000)]
        timed("submit", lambda: slurm.submit(plan, arrays, launcher))
        with contextlib.redirect_stdout(io.StringIO()):
            timed("status", lambda: summarise(points[0].directory.path.parent, every_run=False))
        timed("plan again", lambda: make_plan(points, len(points), 20, 1))
    taken["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 runs")
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help="default: 10,000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    submitit.slurm.slurm.SlurmExecutor = Nobody  # type: ignore[assignment, misc]
    runs = 1_000 if options.quick else options.runs
    print("| runs | compose and check, s | plan, s | submit, s | status, s | plan again, s | memory, MB |")
    print("|---|---|---|---|---|---|---|")
    results = []
    for number in (runs // 4, runs):
        taken = measure(number)
        results.append(taken)
        cells = [f"{taken[name]:.2f}" for name in ("compose", "plan", "submit", "status", "plan again")]
        print(f"| {number:,} | {' | '.join(cells)} | {taken['memory']:.0f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
