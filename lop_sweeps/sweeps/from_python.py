"""What the command `lop` does, as functions, for notebooks and scripts: `from lop_sweeps import compose, run, sweep`.

They leave the caller's process as it was: Hydra's global state, signal handlers, logging, torch's threads. (As for
`lop`, a `.env` in the current folder is read.) They work where an event loop runs, and in any thread; Ctrl-C, a
notebook's *interrupt*, stops cleanly in the main one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins import lop_sweeps as plugins
from lop_sweeps import checks
from lop_sweeps.build import check_trusted
from lop_sweeps.config_loader import in_one_line
from lop_sweeps.dot_env import load_dot_env
from lop_sweeps.errors import ConfigError, LopError, Refusal
from lop_sweeps.sweeps import provenance
from lop_sweeps.sweeps.composer import Composer
from lop_sweeps.sweeps.expansion import Overrides
from lop_sweeps.sweeps.forecast import forecast
from lop_sweeps.sweeps.local_runner import run_here
from lop_sweeps.sweeps.own_hydra import borrowed, make_loader
from lop_sweeps.sweeps.planning import Point, make_plan
from lop_sweeps.sweeps.report import SweepFailed, check, describe
from lop_sweeps.sweeps.spelling import Given, lines_of
from lop_sweeps.sweeps.sweeper import chosen, compose_points, points_of, run_locally
from lop_sweeps.sweeps.watch import Listener
from lop_sweeps.sweeps.worker import spawn
from lop_sweeps.training.components import forget_classes

Row = dict[str, Any]


def compose(*overrides: Given, trusted: Sequence[str] = (), config_dir: str | Path | None = None) -> DictConfig:
    """The configuration of one run, resolved and checked, as its folder would hold it; nothing is run or written.

    overrides: as on the command line, `"optimizer.step_size=0.01"`, or a mapping, `{"optimizer.step_size": 0.01}`, of
    Python's values (`sweeps.spelling` says how they are taken); any number of either, later ones win.
    trusted: modules outside this package that its components may come from, such as `["my_idea"]`.
    config_dir: a folder of yours with more choices for the config groups (`lop --config-dir`).

    Of the result, which is read-only, `run` is the run's name and `num_tasks` its length. The data need not be there.
    Raises `ConfigError` for a value that is not allowed, with its key and what is.
    """
    with _composer(overrides, trusted, config_dir) as (composer, lines):
        config: DictConfig = OmegaConf.create(dict(_single(composer, lines, data=False).config))
    OmegaConf.set_readonly(config, True)
    return config


def run(
    *overrides: Given,
    trusted: Sequence[str] = (),
    config_dir: str | Path | None = None,
    on_row: Callable[[Row], object] | None = None,
    quiet: bool = False,
) -> Path:
    """Train one run in this process, to its end, and return its folder; one that is finished already is not trained.

    overrides, trusted, config_dir: as in `compose`. More tasks than before (`"benchmark.num_tasks=20"`) extend it.
    on_row: called with each row of the log that this call writes, once it is in the file: what `metrics.jsonl` holds,
        and `run`, the run's name. What it raises stops the run with a checkpoint, and is raised.
    quiet: say nothing on stderr of what is run, and how it is getting on.

    Raises `ConfigError` as `compose` does, `DataError` if the data are not there, `Interrupted` after Ctrl-C (the same
    call goes on), and `RunFailed`, with the traceback as a note, if it fails or is somebody else's at the moment.
    """
    with _composer(overrides, trusted, config_dir) as (composer, lines):
        only_show = checks.flag("hydra.launcher.plan", _local(composer).plan)
        point = _single(composer, lines)
    plan = make_plan([point], workers=1, pack=None, threads=1, create=not only_show)
    _say(describe(plan), quiet)
    if only_show:
        _say(forecast(plan, 1), quiet)
        return point.directory.path
    outcomes = []
    if plan.packs:
        with _torch_as_it_is():
            outcomes = run_here(plan, _listener(on_row), quiet=quiet)
    path = point.directory.path
    if plan.busy or any(outcome.state == "busy" for outcome in outcomes):
        raise RunFailed(f"{path} is queued or being trained by another process")
    try:
        check(plan, outcomes)
    except SweepFailed as error:
        failure = RunFailed(f"{path}: {error.failed.get(path, error)}")
        if path not in plan.refused and (traceback := (point.directory.status().get("error") or {}).get("traceback")):
            failure.add_note(traceback)
        raise failure from None
    return path


def sweep(
    *overrides: Given,
    workers: int | None = None,
    trusted: Sequence[str] = (),
    config_dir: str | Path | None = None,
    on_row: Callable[[Row], object] | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Train all runs of a sweep (`lop -m`) and return their folders, in the order of the sweep, each once.

    overrides, trusted, config_dir, quiet: as in `run`; what has several values is swept over: `"seed=range(5)"`,
    `{"seed": range(5), "optimizer.step_size": (0.01, 0.003)}`, `{"algorithm": ("backprop", ["l2", "redo"])}`. Every
    point is checked before the first one runs, and what is finished is not run again.
    workers: processes; by default one for each core (or GPU). With 1, everything is trained in this process.
    on_row: called in this process and thread, as in `run`, while the logs grow. Of a run that had to be tried again,
        rows behind its last checkpoint are written, and told, once more.

    `hydra.launcher.pack=8` and the launcher's other options are overrides, and so is `hydra/launcher=slurm`, which has
    no use for `workers`, `on_row` and `quiet`. Raises `SweepFailed`, whose `failed` says why by run, after all others
    are done; and as `run` does.
    """
    with _composer(overrides, trusted, config_dir) as (composer, lines):
        hydra = composer.master.hydra
        if hydra.sweeper["_target_"] != f"{plugins.__name__}.GridSweeper":
            raise ConfigError("hydra/sweeper", hydra.runtime.choices.get("hydra/sweeper"), "must be grid, from Python")
        if composer.master.get("tuning") is not None:
            advice = "makes a selection of this experiment, which the command line does; tuning=null sweeps over it"
            raise ConfigError("tuning", dict(composer.master.tuning), advice)
        params: Any = OmegaConf.to_container(hydra.sweeper.params) if hydra.sweeper.params else {}
        launcher = _launcher(composer)
        points, _ = compose_points(composer, list(points_of(composer, params, lines)))
    points = chosen(points, launcher.only)
    if isinstance(launcher, plugins.SlurmLauncher):
        if on_row is not None:
            raise ConfigError("on_row", on_row, "can be told nothing by SLURM's jobs: use hydra/launcher=local")
        from lop_sweeps.sweeps.slurm import run_on_slurm

        run_on_slurm(points, launcher)
    else:
        launcher.workers = launcher.workers if workers is None else workers
        with _torch_as_it_is():
            run_locally(points, launcher, _listener(on_row), quiet=quiet, start=spawn)
    return list(dict.fromkeys(point.directory.path for point in points))


class RunFailed(LopError):
    """A run could not be trained to its end."""


@contextlib.contextmanager
def _composer(
    overrides: Sequence[Given], trusted: Sequence[str], config_dir: str | Path | None
) -> Iterator[tuple[Composer, Overrides]]:
    """What composes the runs of these overrides, and those of them that are not Hydra's own, while Hydra is borrowed.

    Hydra's refusals become `ConfigError`, in one line.
    """
    load_dot_env()
    trusted = check_trusted(trusted)
    if "__main__" in trusted:
        advice = "has no file, so that no run could tell what it was made of; write it to one (%%writefile my_idea.py)"
        raise ConfigError("trusted", "__main__", advice)
    if files := provenance.edited_since_loaded(trusted):
        raise LopError(f"{files[0]} has changed since this process loaded it: reload it (importlib.reload), or restart")
    if trusted:
        forget_classes()
    lines = lines_of(overrides)
    with borrowed():
        try:
            loader = make_loader(config_dir)
            given = [f"trusted=[{','.join(trusted)}]"] if trusted else []
            master = loader.load_configuration("config", [*lines, *given], RunMode.MULTIRUN, from_shell=False)
            HydraConfig.instance().set_config(master)
            task: Any = OmegaConf.to_container(master.hydra.overrides.task)
            composer = Composer(loader, master, trusted)
            if any(one.key_or_group == "trusted" for one in composer.parser.parse_overrides(lines)):
                raise ConfigError("trusted", None, "is an argument of this function: trusted=['my_idea']")
            yield composer, task
            provenance.sources(trusted)  # as they are now, soon after they were loaded
        except (HydraException, OmegaConfBaseException) as error:
            raise Refusal(in_one_line(error)) from error


def _single(composer: Composer, lines: Overrides, *, data: bool = True) -> Point:
    found = list(points_of(composer, {}, lines))
    if len(found) != 1:
        variants = [str(variant) for variant, _ in found if variant is not None]
        names = ", ".join(dict.fromkeys(variants))
        advice = f"variant=... (one of: {names})" if len(set(variants)) > 1 else "one value of each key"
        raise Refusal(f"these overrides are {len(found)} runs: give {advice}, or use sweep(...)")
    return composer.point(*found[0], data=data)


def _launcher(composer: Composer) -> plugins.LocalLauncher | plugins.SlurmLauncher:
    node: Any = OmegaConf.to_container(composer.master.hydra.launcher, resolve=True)
    name = str(node.pop("_target_"))
    for kind in (plugins.LocalLauncher, plugins.SlurmLauncher):
        if name == f"{plugins.__name__}.{kind.__name__}":
            try:
                return kind(**node)
            except TypeError as error:
                raise ConfigError("hydra.launcher", node, f"has an option that is not known: {error}") from error
    choice = composer.master.hydra.runtime.choices.get("hydra/launcher")
    raise ConfigError("hydra/launcher", choice, "must be local or slurm, from Python")


def _local(composer: Composer) -> plugins.LocalLauncher:
    launcher = _launcher(composer)
    if not isinstance(launcher, plugins.LocalLauncher):
        choice = composer.master.hydra.runtime.choices.get("hydra/launcher")
        raise ConfigError("hydra/launcher", choice, "launches sweeps: use sweep(...), also for a single run")
    return launcher


def _listener(on_row: Callable[[Row], object] | None) -> Listener | None:
    return None if on_row is None else Listener(on_row)


@contextlib.contextmanager
def _torch_as_it_is() -> Iterator[None]:
    """Training in this process sets what is global in torch; the caller may use torch, too."""
    threads, cuda, cudnn = torch.get_num_threads(), torch.backends.cuda.matmul, torch.backends.cudnn
    tf32 = cuda.allow_tf32, cudnn.allow_tf32
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cuda.allow_tf32, cudnn.allow_tf32 = tf32


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        sys.stderr.write(f"{text}\n")
