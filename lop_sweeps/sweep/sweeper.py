"""A sweep: expand, compose, check, plan, run.

Composing a point takes Hydra about a tenth of a second. Here each combination of config-group choices is composed
once, and value overrides are applied to copies, by Hydra's own function.
"""

from __future__ import annotations

import copy
import itertools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins import lop_sweeps as plugins  # not its classes: Hydra's scan may execute the module again
from lop_sweeps import checks, cores
from lop_sweeps.console import unknown_choice, unknown_key
from lop_sweeps.errors import ConfigError
from lop_sweeps.sweep.planning import Plan, Point, check_scale, make_plan, make_point, resolve
from lop_sweeps.sweep.report import describe, finish

log = logging.getLogger("lop")

Overrides = list[str]


def sweep(
    loader: ConfigLoader, config: DictConfig, launcher: Launcher, params: Mapping[str, Any], arguments: Sequence[str]
) -> Any:
    """What `lop -m` does. Raises `LopError` before anything runs if any point is wrong."""
    points = []
    composer = Composer(loader, config)
    jobs: list[Overrides] = []
    for study, its_params, line in studies(composer, params, arguments):
        for name, overrides in expand(loader, variants_of(study), its_params, line):
            points.append(composer.point(name, overrides))
            jobs.append([*overrides, *([f"variant={name}"] if name is not None else [])])
    if isinstance(launcher, plugins.LocalLauncher | plugins.SlurmLauncher):
        points = chosen(points, launcher.only)
    if isinstance(launcher, plugins.LocalLauncher):
        return run_locally(points, launcher)
    if isinstance(launcher, plugins.SlurmLauncher):
        from lop_sweeps.sweep.slurm import run_on_slurm

        return run_on_slurm(points, launcher)
    todo = {point.directory.path: job for point, job in zip(points, jobs, strict=True) if not point.is_finished()}
    log.info("%d points: %d to run, the others are finished or the same", len(points), len(todo))
    return launcher.launch(list(todo.values()), initial_job_idx=0) if todo else []


def chosen(points: Sequence[Point], only: str) -> list[Point]:
    """The points that the launcher's option `only` leaves."""
    if checks.choice("hydra.launcher.only", only, ("all", "failed")) == "all":
        return list(points)
    failed = [point for point in points if point.directory.status()["state"] == "failed"]
    if not failed:
        raise ConfigError("hydra.launcher.only", only, f"leaves nothing: none of the {len(points)} runs has failed")
    return failed


def run_locally(points: Sequence[Point], launcher: plugins.LocalLauncher) -> list[Any]:
    from lop_sweeps.sweep.local_runner import run_workers
    from lop_sweeps.training import devices

    on_gpu = any(point.device == "cuda" for point in points)
    default = devices.count() if on_gpu else cores.allotted()
    workers = default if launcher.workers is None else checks.integer("hydra.launcher.workers", launcher.workers, 1)
    pack = None if launcher.pack is None else checks.integer("hydra.launcher.pack", launcher.pack, 1)
    threads = checks.integer("hydra.launcher.threads", launcher.threads, 1)
    plan = make_plan(points, workers, pack, threads)
    sys.stderr.write(describe(plan) + "\n")
    outcomes = run_workers(plan, workers) if plan.packs else []
    finish(plan, outcomes)
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
    for line in _alternatives(chosen[-1]):
        hydra_lines = list(composer.master.hydra.overrides.hydra)
        study = composer.loader.load_configuration("config", [*hydra_lines, line], RunMode.MULTIRUN)
        yield study, dict(study.hydra.sweeper.params), [line, *rest]


def variants_of(config: DictConfig) -> dict[str | None, Sequence[str]]:
    variants: Any = config.get("variants") or {None: []}
    if isinstance(variants, DictConfig):
        variants = OmegaConf.to_container(variants)
    if not isinstance(variants, dict):
        raise ConfigError("variants", variants, "must map names to lists of overrides")
    return variants


def expand(
    loader: ConfigLoader,
    variants: Mapping[str | None, Sequence[str]],
    params: Mapping[str, Any],
    arguments: Sequence[str],
) -> Iterator[tuple[str | None, Overrides]]:
    """Every combination of the sweeper's `params`, a variant's overrides and the command line; later ones win."""
    parser = OverridesParser.create(config_loader=loader)
    for name, overrides in variants.items():
        if not isinstance(overrides, Sequence) or isinstance(overrides, str):
            raise ConfigError(f"variants.{name}", overrides, "must be a list of overrides, such as [algorithm=l2]")
        lines = [*(f"{key}={value}" for key, value in params.items()), *overrides, *arguments]
        alternatives: dict[str, Overrides] = {}
        for override in parser.parse_overrides([str(line) for line in lines]):
            alternatives[override.get_key_element()] = _alternatives(override)
        for combination in itertools.product(*alternatives.values()):
            yield name, list(combination)


def _alternatives(override: Override) -> Overrides:
    key = override.get_key_element()
    if not override.is_sweep_override():
        if override.is_delete():
            return [str(override.input_line)]
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise ConfigError(key, override.input_line, "an interval cannot be swept over; use a list, range or choice")
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise ConfigError(key, override.input_line, "sweeps over nothing: the range is empty, or nothing matches")
    return values


class Composer:
    """Composes each combination of config-group choices once."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        self.bases: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]]] = {}
        self.groups: dict[str, bool] = {}
        self.parsed: dict[str, Override] = {}
        self.resolved: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, Any]]] = {}

    def point(self, variant: str | None, overrides: Overrides) -> Point:
        """The checked point of these overrides."""
        try:
            plain, choices = self._resolve(overrides)
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: Hydra's, for network=null
            hint = self._hint(overrides)
            causes = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
            what = hint or " ".join(" ".join(causes).split())
            raise ConfigError(" ".join(overrides), None, what) from error
        return make_point(resolve({**plain, "variant": variant}, choices))

    def _resolve(self, overrides: Overrides) -> tuple[dict[str, Any], dict[str, Any]]:
        """The resolved configuration and choices; points that differ in their seed alone share the work."""
        rest = tuple(line for line in overrides if not line.startswith("seed="))
        seeds = [self._parse([line])[0].value() for line in overrides if line.startswith("seed=")]
        if len(seeds) == 1 and rest in self.resolved:
            plain, choices = self.resolved[rest]
            return {**plain, "seed": seeds[0]}, choices
        config, choices = self.compose(overrides)
        raw: Any = OmegaConf.to_container(config)
        plain = _interpolate(config, raw)
        if "seed}" not in repr(raw):  # nothing else depends on the seed
            self.resolved[rest] = plain, choices
        return plain, choices

    def compose(self, overrides: Overrides) -> tuple[DictConfig, dict[str, Any]]:
        """The configuration of these overrides, and the choice made in each group."""
        parsed = self._parse(overrides)
        choices = tuple(line for line, one in zip(overrides, parsed, strict=True) if self._is_group(one))
        values = [one for one in parsed if not self._is_group(one)]
        if choices not in self.bases:
            composed = self.loader.load_configuration(
                self.master.hydra.job.config_name,
                [*OmegaConf.to_container(self.master.hydra.overrides.hydra), *choices],  # type: ignore[misc]
                RunMode.RUN,
            )
            chosen = OmegaConf.to_container(composed.hydra.runtime.choices)
            assert isinstance(chosen, dict)
            with open_dict(composed):
                del composed["hydra"]
            self.bases[choices] = (composed, {str(group): choice for group, choice in chosen.items()})
        base, chosen = self.bases[choices]
        config = copy.deepcopy(base)
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return config, chosen

    def _parse(self, overrides: Overrides) -> list[Override]:
        """A sweep's points are made of few different lines, and parsing one takes a millisecond."""
        for line in overrides:
            if line not in self.parsed:
                self.parsed[line] = self.parser.parse_override(line)
        return [self.parsed[line] for line in overrides]

    def _is_group(self, override: Override) -> bool:
        key = override.key_or_group
        if key not in self.groups:
            exists = self.loader.repository.group_exists(key)  # type: ignore[attr-defined]
            self.groups[key] = override.package is not None or exists
        return self.groups[key]

    def _hint(self, overrides: Overrides) -> str | None:
        """Which choices or keys there are where one of the overrides has an unknown one."""
        parsed = self._parse(overrides)
        for one in filter(self._is_group, parsed):
            value = one.value()
            names = [name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
            if hint := unknown_choice(self.loader, one.key_or_group, names):
                return hint
        chosen = tuple(line for line, one in zip(overrides, parsed, strict=True) if self._is_group(one))
        base, _ = self.bases.get(chosen, (None, None))
        values = [one for one in parsed if not self._is_group(one) and not one.is_add() and not one.is_force_add()]
        return next((hint for one in values if base and (hint := unknown_key(base, one.key_or_group))), None)


def make_single(config: DictConfig, choices: Mapping[str, Any]) -> Point:
    """The checked point of one composed configuration, for `lop` without `-m` and for Hydra's own launchers."""
    if config.get("variants") and config.get("variant") is None:
        names = ", ".join(map(str, config.variants)) if isinstance(config.variants, DictConfig) else config.variants
        raise ConfigError("variants", names, "this experiment is a sweep over variants; add -m to run it")
    raw: Any = OmegaConf.to_container(config)
    return make_point(resolve(_interpolate(config, raw), choices))


def _interpolate(config: DictConfig, raw: dict[str, Any]) -> dict[str, Any]:
    """The composed configuration with every ${key}, which `raw` still has, replaced by its value."""
    for key in ("benchmark", "scale"):  # what the interpolations of a benchmark's lengths need
        if raw.get(key) is None:
            raise ConfigError(key, None, f"must be given: {key}=...")
    scales = raw["benchmark"].get("scales") if isinstance(raw["benchmark"], dict) else None
    check_scale(raw, scales)
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(error.full_key or "the configuration", None, str(error).splitlines()[0]) from error
    return dict(resolved)


def run_single(point: Point) -> Plan:
    """Run one point in this process."""
    from lop_sweeps.sweep.local_runner import run_here

    plan = make_plan([point], workers=1, pack=None, threads=1)
    sys.stderr.write(describe(plan) + "\n")
    finish(plan, run_here(plan) if plan.packs else [])
    return plan
