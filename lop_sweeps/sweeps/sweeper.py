"""A sweep: expand, compose, check, plan, run."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins import lop_sweeps as plugins  # not its classes: Hydra's scan may execute the module again
from lop_sweeps import checks, cores
from lop_sweeps.config_loader import Loader
from lop_sweeps.errors import ConfigError
from lop_sweeps.sweeps.composer import Composer, interpolate
from lop_sweeps.sweeps.expansion import (
    Overrides,
    alternatives,
    asked_variants,
    choose_variants,
    expand,
    variant_line,
    variants_of,
)
from lop_sweeps.sweeps.forecast import forecast, warning
from lop_sweeps.sweeps.groups import make_plan_in_groups
from lop_sweeps.sweeps.measures import check_one_set
from lop_sweeps.sweeps.planning import Plan, Point, make_plan, make_point, resolve
from lop_sweeps.sweeps.report import check, describe, finish

if TYPE_CHECKING:  # they import torch's training
    from lop_sweeps.sweeps.outcome import Outcome
    from lop_sweeps.sweeps.watch import Listener
    from lop_sweeps.sweeps.worker import Start

log = logging.getLogger("lop")


def sweep(
    loader: ConfigLoader,
    config: DictConfig,
    launcher: Launcher,
    params: Mapping[str, Any],
    arguments: Sequence[str],
    trusted: Sequence[str] = (),
) -> Any:
    """What `lop -m` does. Raises `LopError` before anything runs if any point is wrong.

    trusted: module prefixes that the caller trusts.
    """
    assert isinstance(loader, Loader)
    composer = Composer(loader, config, trusted)
    points, jobs = compose_points(composer, list(points_of(composer, params, arguments)))
    if isinstance(launcher, plugins.LocalLauncher | plugins.SlurmLauncher):
        points = chosen(points, launcher.only)
    if isinstance(launcher, plugins.LocalLauncher):
        return run_locally(points, launcher)
    if isinstance(launcher, plugins.SlurmLauncher):
        from lop_sweeps.sweeps.slurm import run_on_slurm

        return run_on_slurm(points, launcher)
    todo = {point.directory.path: job for point, job in zip(points, jobs, strict=True) if not point.is_finished()}
    log.info("%d points: %d to run, the others are finished or the same", len(points), len(todo))
    return launcher.launch(list(todo.values()), initial_job_idx=0) if todo else []


def points_of(
    composer: Composer, params: Mapping[str, Any], arguments: Sequence[str]
) -> Iterator[tuple[str | None, Overrides]]:
    """Variant and overrides of every point of the line's experiments."""
    asked, line = asked_variants(arguments)
    found = list(studies(composer, params, line))
    every: dict[str | None, Sequence[str]] = {}
    for study, _, _ in found:
        every |= variants_of(study)
    wanted = set(choose_variants(every, asked))  # refuses what no experiment has
    for study, its_params, its_line in found:
        its_variants = {name: lines for name, lines in variants_of(study).items() if name in wanted}
        yield from expand(composer.loader, its_variants, its_params, its_line)


def compose_points(
    composer: Composer, expanded: Sequence[tuple[str | None, Overrides]], *, quiet: bool = False
) -> tuple[list[Point], list[Overrides]]:
    """The checked points, and the overrides of each as Hydra takes them.

    What only some of the choices swept over have is set where it is, and unless `quiet` said; what none has is refused.
    """
    points, jobs = [], []
    sets: dict[Path, Mapping[str, Any]] = {}
    given: Counter[str] = Counter()
    absent: dict[str, tuple[str | None, Overrides]] = {}
    left: Counter[str] = Counter()
    one_choice = len({composer.choices_of(overrides) for _, overrides in expanded}) == 1
    for variant, overrides in expanded:
        left_out: list[str] = []
        point = composer.point(variant, overrides, None if one_choice else left_out)
        check_one_set(sets, point.directory.path, point.measures)
        sets[point.directory.path] = point.measures
        points.append(point)
        kept = [line for line in overrides if line not in left_out]
        jobs.append([*kept, *([variant_line(variant)] if variant is not None else [])])
        given.update(overrides)
        left.update(left_out)
        for line in left_out:
            if line not in absent or composer.depth(line, overrides) > composer.depth(line, absent[line][1]):
                absent[line] = variant, [*kept, line]  # without what else is not there, but may be elsewhere
    for line, times in left.items():
        if times == given[line]:
            composer.point(*absent[line])  # refuses it, in the words for a point that most nearly has it
            raise composer.refusal(absent[line][1], line)
        if not quiet:
            told = f"{line}: set in {given[line] - times} of {given[line]} points; the others have no such key\n"
            sys.stderr.write(told)
    return points, jobs


def chosen(points: Sequence[Point], only: str) -> list[Point]:
    """The points that the launcher's option `only` leaves."""
    if checks.choice("hydra.launcher.only", only, ("all", "failed")) == "all":
        return list(points)
    failed = [point for point in points if point.directory.status()["state"] == "failed"]
    if not failed:
        raise ConfigError("hydra.launcher.only", only, f"leaves nothing: none of the {len(points)} runs has failed")
    return failed


def run_locally(
    points: Sequence[Point],
    launcher: plugins.LocalLauncher,
    listener: Listener | None = None,
    *,
    quiet: bool = False,
    start: Start | None = None,
    groups: Sequence[Sequence[Point]] | None = None,
) -> list[Any]:
    """Train the points' runs on this machine. Raises `SweepFailed`, or `Interrupted` after a clean stop.

    listener, quiet: as in `local_runner`. start: how worker processes are started, by default as the command does; if
    given, runs that need one worker are trained in this process. groups: of the points, none of which shares a pack
    with another.
    """
    from lop_sweeps.sweeps import local_runner, worker
    from lop_sweeps.training import devices

    def say(text: str) -> None:
        sys.stderr.write("" if quiet or not text else f"{text}\n")

    on_gpu = any(point.device == "cuda" for point in points)
    default = devices.count() if on_gpu else cores.allotted()
    workers = default if launcher.workers is None else checks.integer("hydra.launcher.workers", launcher.workers, 1)
    pack = None if launcher.pack is None else checks.integer("hydra.launcher.pack", launcher.pack, 1)
    threads = checks.integer("hydra.launcher.threads", launcher.threads, 1)
    only_show = checks.flag("hydra.launcher.plan", launcher.plan)
    if groups is None:
        plan = make_plan(points, workers, pack, threads, create=not only_show)
    else:
        plan = make_plan_in_groups(groups, pack, threads, create=not only_show)
    say(describe(plan))
    if only_show:
        say(forecast(plan, workers))
        return []
    say(warning(plan, workers))
    outcomes: list[Outcome] = []
    if start is not None and workers == threads == 1 and plan.packs:
        outcomes = local_runner.run_here(plan, listener, quiet=quiet)
    elif plan.packs:
        outcomes = local_runner.run_workers(plan, workers, listener, quiet=quiet, start=start or worker.by_command)
    (check if quiet else finish)(plan, outcomes)
    return []


def studies(
    composer: Composer, params: Mapping[str, Any], arguments: Sequence[str]
) -> Iterator[tuple[DictConfig, Mapping[str, Any], Overrides]]:
    """The sweep's configuration, parameters and line; one of each for every experiment if several are named."""
    chosen = [one for one in composer.parser.parse_overrides(list(arguments)) if one.key_or_group == "experiment"]
    if not any(one.is_sweep_override() for one in chosen):
        yield composer.master, params, list(arguments)
        return
    rest = [line for line in arguments if not line.startswith("experiment=")]
    for line in alternatives(chosen[-1]):
        hydra_lines = list(composer.master.hydra.overrides.hydra)
        name = composer.master.hydra.job.config_name
        study = composer.loader.load_configuration(name, [*hydra_lines, line], RunMode.MULTIRUN)
        yield study, dict(study.hydra.sweeper.params), [line, *rest]


def make_single(config: DictConfig, choices: Mapping[str, Any], trusted: Sequence[str] = ()) -> Point:
    """The checked point of one composed configuration, for `lop` without `-m` and for Hydra's own launchers.

    trusted: module prefixes that the caller trusts.
    """
    if config.get("variants") or config.get("variant") is not None:
        return _single_variant(config, trusted)
    raw: Any = OmegaConf.to_container(config)
    return make_point(resolve(interpolate(config, raw, trusted), choices), trusted)


def _single_variant(config: DictConfig, trusted: Sequence[str]) -> Point:
    """`lop experiment=E variant=NAME`: that variant's overrides come before those of the command line."""
    from hydra.core.hydra_config import HydraConfig

    variants, wanted = variants_of(config), config.get("variant")
    names = ", ".join(str(name) for name in variants if name is not None)
    if wanted is None:
        advice = "this experiment is a sweep over variants; add -m to run it, or variant=NAME for one of them"
        raise ConfigError("variants", names, advice)
    hydra: Any = HydraConfig.get()
    loader: Any = GlobalHydra.instance().config_loader()
    composer = Composer(loader, OmegaConf.create({"hydra": OmegaConf.to_container(hydra, resolve=False)}), trusted)
    asked, line = asked_variants([variant_line(str(wanted)), *hydra.overrides.task])
    found = list(expand(loader, choose_variants(variants, asked), {}, line))
    if len(found) != 1:
        raise ConfigError("variant", wanted, f"is a sweep of {len(found)} runs; add -m to run it")
    return composer.point(*found[0])


def check_single(hydra: HydraConf) -> bool:
    """Whether `lop` without `-m` is only to show its plan. Raises `ConfigError` for a launcher that needs a sweep."""
    if hydra.mode != RunMode.RUN:  # a job of one of Hydra's own launchers
        return False
    launcher = hydra.launcher
    if launcher["_target_"] != f"{plugins.__name__}.LocalLauncher":
        choice = hydra.runtime.choices.get("hydra/launcher")
        raise ConfigError("hydra/launcher", choice, "launches sweeps; add -m, also for a single run")
    return checks.flag("hydra.launcher.plan", launcher.get("plan"))


def run_single(point: Point, *, only_show: bool = False) -> Plan:
    """Run one point in this process; only_show: say what that would be."""
    from lop_sweeps.sweeps.local_runner import run_here

    plan = make_plan([point], workers=1, pack=None, threads=1, create=not only_show)
    sys.stderr.write(describe(plan) + "\n")
    if only_show:
        sys.stderr.write(forecast(plan, 1) + "\n")
        return plan
    finish(plan, run_here(plan) if plan.packs else [])
    return plan
