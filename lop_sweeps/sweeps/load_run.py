"""A run from its folder: its network as it was trained, and what it consists of."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lop_sweeps.errors import CheckpointError, IdentityError
from lop_sweeps.home import at_home
from lop_sweeps.sweeps import keeping
from lop_sweeps.sweeps.identity import configured
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.verdict import Verdict
from lop_sweeps.sweeps.verification import other_versions
from lop_sweeps.training import checkpoint, session
from lop_sweeps.training.checkpoint_file import CHECKPOINT, snapshot_file
from lop_sweeps.training.components import Components, assemble, make_learner

log = logging.getLogger("lop")


def load_run(
    path: str | Path, trusted: Sequence[str] = (), *, older: bool = False, task: int | None = None
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The trained network of a run, in evaluation mode, and its configuration.

    task: the network as it was before this task, which the run has kept (`checkpoint.keep`), or stands at.

    trusted: modules outside this package that its components may come from, such as ["my_idea"]; what the run's own
    files say about that is not believed, and `ConfigError` is raised for components of other modules.
    older: if the newest checkpoint is damaged, take the one before it. Raises `CheckpointError` if the run has no
    readable checkpoint (not started, or pruned) or, without `older`, the newest is damaged or another run's, or if
    there is no network from before `task`; and `IdentityError` if the configuration is not the run's.
    """
    run = RunDirectory(Path(at_home("path", str(path))))
    verdict = look(run.path)
    if problem := verdict.of_experiment:
        raise IdentityError(f"{run.path}/{problem}")
    config = run.config()
    if versions := other_versions(run, config, verdict, trusted):
        log.warning("%s was made with %s; here it is another version", run.path, ", ".join(versions))
    if problem := verdict.of_results:
        log.warning("%s/%s", run.path, problem)
    if task is None:
        payload = _checkpoint(run, verdict.problems.get(CHECKPOINT), older)
    else:
        payload = state_before(run, verdict, task)
    learner = make_learner([components_of(config, trusted)], [int(config["seed"])], "torch")
    session.restore(learner, [payload])
    return learner.network.eval(), config


def state_before(run: RunDirectory, verdict: Verdict, task: int) -> dict[str, Any]:
    """The learning state of a run before a task; verdict: on the run. Raises `CheckpointError` if there is none."""
    file = snapshot_file(run.path, task)
    if not file.exists():
        file = run.path / CHECKPOINT
        problem = verdict.problems.get(CHECKPOINT)
    else:
        problem = keeping.problem(run.path, task, run.name, verdict.status)
    if problem:
        raise CheckpointError(f"{file}: {problem}")
    return checkpoint.load_kept(run.path, task)


def components_of(config: dict[str, Any], trusted: Sequence[str] = ()) -> Components:
    """What a run with this stored configuration consists of, whether or not its data are here."""
    return assemble(configured(config), trusted, data=False)


def _checkpoint(run: RunDirectory, problem: str | None, older: bool) -> dict[str, Any]:
    """The newest checkpoint, of which `problem` is known; with `older`, the one before it if that is damaged."""
    newest, previous = checkpoint.NAMES
    try:
        if problem:
            raise CheckpointError(f"{run.path / newest}: {problem}")
        return checkpoint.load(run.path, newest)
    except CheckpointError as error:
        try:
            earlier = checkpoint.load(run.path, previous)
        except CheckpointError:
            raise CheckpointError(f"{run.path} has no readable checkpoint ({error})") from error
        if older:
            return earlier
        raise CheckpointError(f"{error}; load_run(..., older=True) takes the one before it") from error
