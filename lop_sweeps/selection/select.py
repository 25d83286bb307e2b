"""A selection, from its line to its report: rung after rung on the tuning seeds, then the chosen settings on others.

A rung is planned anew at every start, like any sweep: what is finished is skipped, what another process trains is
waited for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from hydra_plugins import lop_sweeps as plugins
from lop_sweeps.config_loader import Loader
from lop_sweeps.errors import ConfigError, Interrupted, LopError
from lop_sweeps.selection import record
from lop_sweeps.selection.methods import question
from lop_sweeps.selection.result import Result
from lop_sweeps.selection.study import Study, many
from lop_sweeps.sweeps import queue
from lop_sweeps.sweeps.claim import is_alive
from lop_sweeps.sweeps.composer import Composer
from lop_sweeps.sweeps.planning import Point
from lop_sweeps.sweeps.sweeper import run_locally

POLL = 2.0  # seconds between two looks at runs that another process trains


def select(
    loader: ConfigLoader,
    config: DictConfig,
    launcher: Launcher,
    params: Mapping[str, Any],
    arguments: Sequence[str],
    trusted: Sequence[str] = (),
) -> Any:
    """What `lop -m hydra/sweeper=select` does. Raises `LopError` before anything runs if something is wrong."""
    assert isinstance(loader, Loader)
    if not isinstance(launcher, plugins.LocalLauncher | plugins.SlurmLauncher):
        raise ConfigError("hydra/launcher", type(launcher).__name__, "must be local or slurm with hydra/sweeper=select")
    composer = Composer(loader, config, trusted)
    study = Study(composer, question(composer, params, arguments))
    if launcher.plan:
        sys.stderr.write(study.describe() + "\n")
        run(study.forecast(), launcher)
        return []
    _go(study, launcher)
    return []


def _go(study: Study, launcher: Any) -> None:
    recorded = record.read(study.folder)
    if recorded is not None:
        record.check_same(study.folder, recorded, study.question)
    sys.stderr.write(study.describe() + "\n")
    results = {name: Result(study, name) for name in study.candidates}
    for number, rung in enumerate(study.rungs):
        choosing = {name: result for name, result in results.items() if len(result.left) > 1}
        groups = [
            study.points(study.candidates[name][at], rung) for name, result in choosing.items() for at in result.left
        ]
        if not groups:
            break
        sys.stderr.write(
            f"rung {number + 1} of {len(study.rungs)}: {many(len(groups), 'setting')} on "
            f"{many(len(study.asked.tuning.seeds), 'seed')}, the first {rung.tasks} of {study.num_tasks} tasks\n"
        )
        if not ended(groups, launcher):
            sys.stderr.write("the rung is submitted; when its runs have ended, the same line goes on\n")
            return
        for result in choosing.values():
            result.decide(rung, last=number + 1 == len(study.rungs))
        _write(study, results, recorded)
    _write(study, results, recorded)
    sys.stderr.write("\n".join(result.words() for result in results.values()) + "\n")
    run([study.report(name, result.left[0]) for name, result in results.items()], launcher, alone=False)


def _write(study: Study, results: Mapping[str, Result], recorded: Mapping[str, Any] | None) -> None:
    methods = {name: result.content() for name, result in results.items()}
    if recorded is not None:
        record.check_decisions(study.folder, recorded["methods"], methods)
    report = {name: study.report(name, result.left[0]) for name, result in results.items() if len(result.left) == 1}
    names = {name: [point.directory.name for point in points] for name, points in report.items()}
    content = {**study.question, "methods": methods, "report": names}
    record.write(study.folder, record.joined(record.read(study.folder), content))  # others may have chosen meanwhile


def run(groups: Sequence[Sequence[Point]], launcher: Any, *, alone: bool = True) -> None:
    """Train runs here or on SLURM. alone: each group is a pack, or several, of its own."""
    points = [point for group in groups for point in group]
    if isinstance(launcher, plugins.LocalLauncher):
        run_locally(points, launcher, groups=groups if alone else None)
        return
    from lop_sweeps.sweeps.slurm import run_on_slurm

    run_on_slurm(points, launcher, groups=groups if alone else None)


def ended(groups: Sequence[Sequence[Point]], launcher: Any) -> bool:
    """Train what is left of a rung, and wait for runs that others train; whether all have ended.

    It is not if they are on SLURM and nobody is to wait. Raises `LopError` if one has failed.
    """
    points, said = [point for group in groups for point in group], False
    while any(not point.is_finished() for point in points):
        if not said or not _others(points):
            run(groups, launcher)
        left = [point for point in points if not point.is_finished()]
        if not left:
            return True
        if isinstance(launcher, plugins.SlurmLauncher) and not launcher.wait:
            return False
        failed = [point.directory for point in left if point.directory.status()["state"] == "failed"]
        if failed and not _others(points):
            raise LopError(f"{failed[0].path} failed; lop-status says why, and the same line runs it again")
        if not said:
            sys.stderr.write(f"waiting for {many(len(left), 'run')} that another process trains\n")
            said = True
        try:
            time.sleep(POLL)
        except KeyboardInterrupt:
            raise Interrupted("stopped; the same command continues") from None
    return True


def _others(points: Sequence[Point]) -> bool:
    """Whether some of the runs are being trained, or queued, by another process."""
    queued = queue.active_runs(point.directory for point in points)
    return any(is_alive(point.directory.path / "lock") or point.directory.path in queued for point in points)
