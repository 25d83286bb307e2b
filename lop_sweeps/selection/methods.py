"""What is tried: the methods of a line or an experiment, and of each its settings, as many as the budget has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from lop_sweeps import checks, streams
from lop_sweeps.build import suggest
from lop_sweeps.errors import ConfigError
from lop_sweeps.selection.record import SUMMARIES
from lop_sweeps.sweeps.composer import Composer
from lop_sweeps.sweeps.expansion import alternatives, asked_variants, choose_variants, variants_of
from lop_sweeps.sweeps.planning import names_of

METHOD, SEED = "algorithm", "seed"
# What is no hyper-parameter: a choice is made on one stream, and its length is the selection's.
FIXED = ("benchmark", "scale", "sweep", "benchmark.num_tasks", "benchmark.num_steps", "agent")


@dataclass(frozen=True)
class Tuning:
    """How settings are chosen; the same for every method.

    settings: tried of each method, at most. seeds: of the choice; results are of others. shares: of the stream, that
    the rungs of successive halving see. share: of the whole stream, what `shares` are shares of. keep: share of the
    settings that goes on from a rung. by: mean over the tasks seen, late: over the last tenth of them, or final.
    draw: the seed by which settings are drawn where a grid has more, or is a range.
    """

    settings: int = 8
    seeds: tuple[int, ...] = (1000, 1001, 1002)
    shares: tuple[float, ...] = (0.111, 0.333, 1.0)
    share: float = 1.0
    keep: float = 0.333
    by: str = "mean"
    draw: int = 0

    @staticmethod
    def of(node: Mapping[str, Any]) -> Tuning:
        """From the key `tuning` of a configuration, over the defaults. Raises `ConfigError`."""
        known = Tuning.__dataclass_fields__
        for key in node:
            if key not in known:
                raise ConfigError(f"tuning.{key}", node[key], f"is not a key of tuning{suggest(key, known)}")
        given = {key: one.default for key, one in known.items()} | dict(node)
        settings = checks.integer("tuning.settings", given["settings"], 1)
        seeds = tuple(_integers("tuning.seeds", given["seeds"]))
        shares = given["shares"] if isinstance(given["shares"], list | tuple) else [given["shares"]]
        shares = tuple(checks.number(f"tuning.shares[{i}]", one, 0.0, 1.0, above=True) for i, one in enumerate(shares))
        if not shares or list(shares) != sorted(set(shares)):
            raise ConfigError("tuning.shares", list(shares), "must rise")
        return Tuning(
            settings,
            seeds,
            shares,
            checks.number("tuning.share", given["share"], 0.0, 1.0, above=True),
            checks.number("tuning.keep", given["keep"], 0.0, 1.0, above=True),
            checks.choice("tuning.by", given["by"], SUMMARIES),
            checks.integer("tuning.draw", given["draw"], 0),
        )


@dataclass(frozen=True)
class Setting:
    """Values of a method's hyper-parameters. label: in words, `step_size=0.01, strength=0.001`."""

    label: str
    overrides: tuple[str, ...]

    @staticmethod
    def of(lines: Sequence[str]) -> Setting:
        parts = [line.partition("=") for line in lines]
        return Setting(", ".join(f"{key.rpartition('.')[2]}={value}" for key, _, value in parts), tuple(lines))


@dataclass(frozen=True)
class Method:
    """name: of the figures' legend. variant: that of an experiment. settings: those of its grid, in its order. points:
    how many the grid has; 0 for one with ranges, which has no end.
    """

    name: str
    variant: str | None
    overrides: tuple[str, ...]
    settings: tuple[Setting, ...]
    points: int = 1


@dataclass(frozen=True)
class Question:
    """What is to be chosen. line: overrides of every run. seeds: of the report."""

    methods: tuple[Method, ...]
    line: tuple[str, ...]
    seeds: tuple[int, ...]
    tuning: Tuning = field(default_factory=Tuning)


def question(composer: Composer, params: Mapping[str, Any], arguments: Sequence[str]) -> Question:
    """The methods, settings and seeds of a command line and its experiment. Raises `ConfigError`."""
    config = composer.master
    asked, line = asked_variants(arguments)
    lines = [f"{key}={value}" for key, value in params.items()] + list(line)
    given = _last(composer.parser.parse_overrides(lines))
    tuning = Tuning.of(_plain(config.get("tuning"), "tuning") | _typed(given))
    fixed = [_text(one) for one in given if not one.is_sweep_override() and one.key_or_group != SEED]
    fixed = [text for text in fixed if not text.startswith(("tuning.", "tuning=", "grids"))]
    swept = [one for one in given if one.is_sweep_override() and one.key_or_group not in (METHOD, SEED)]
    for one in swept:
        if one.key_or_group in FIXED:
            raise ConfigError(one.key_or_group, one.input_line, "must be one value: a selection is made on one stream")
    seeds = [one for one in given if one.key_or_group == SEED]
    report = [int(text.partition("=")[2]) for one in seeds for text in alternatives(one)] or [int(config.seed)]
    both = sorted(set(report) & set(tuning.seeds))
    if both:
        allowed = f"must be others than the seeds of the report; in both: {', '.join(map(str, both))}"
        raise ConfigError("tuning.seeds", list(tuning.seeds), allowed)
    typed = {one.key_or_group for one in given if not one.is_sweep_override()}
    methods = [
        _method(name, variant, overrides, [one for one in (*grid, *swept) if one.key_or_group not in typed], tuning)
        for name, variant, overrides, grid in _methods(composer, given, asked)
    ]
    return Question(tuple(methods), tuple(fixed), tuple(dict.fromkeys(report)), tuning)


def _typed(given: Sequence[Override]) -> dict[str, Any]:
    """The keys of `tuning` on a command line, which an experiment's need not have."""
    found = {}
    for one in given:
        if not one.key_or_group.startswith("tuning."):
            continue
        if one.is_sweep_override():
            raise ConfigError(one.key_or_group, one.input_line, "must be one value; of several, a list: [1000,1001]")
        found[one.key_or_group.removeprefix("tuning.")] = one.value()
    return found


def _methods(
    composer: Composer, given: Sequence[Override], asked: Any
) -> Iterator[tuple[str, str | None, list[str], list[Override]]]:
    """Name, variant, overrides and grid of each method."""
    config = composer.master
    grids = _plain(config.get("grids"), "grids")
    variants = choose_variants(variants_of(config), asked)
    swept = [one for one in given if one.key_or_group == METHOD and one.is_sweep_override()]
    if None not in variants and swept:
        raise ConfigError(
            METHOD, swept[0].input_line, "cannot be swept over here: the experiment's variants are the methods"
        )
    if None in variants:
        lines = [line for one in swept for line in alternatives(one)]
        found: list[tuple[str, str | None, Sequence[str]]] = [
            (line.partition("=")[2].strip("[]").replace(",", " + "), None, [line]) for line in lines
        ]
        found = found or [(" + ".join(_algorithms(given, config)), None, [])]
    else:
        found = [(str(name), str(name), lines) for name, lines in variants.items()]
    known = [name for name, _, _ in found] + [str(name) for name in variants_of(config) if name is not None]
    for name in grids:
        if name not in known:
            raise ConfigError(f"grids.{name}", None, f"is of no method here{suggest(name, known)}")
    for name, variant, its_lines in found:
        parsed = _last(composer.parser.parse_overrides([str(line) for line in its_lines]))
        grid = [one for one in parsed if one.is_sweep_override()]
        own = _plain(grids.get(name), f"grids.{name}")
        grid += composer.parser.parse_overrides([f"{key}={values}" for key, values in own.items()])
        yield name, variant, [_text(one) for one in parsed if not one.is_sweep_override()], grid


def _algorithms(given: Sequence[Override], config: DictConfig) -> list[str]:
    mine = [one.value() for one in given if one.key_or_group == METHOD]
    choice = mine[-1] if mine else OmegaConf.select(config, "hydra.runtime.choices.algorithm")
    return names_of(OmegaConf.to_container(choice) if isinstance(choice, ListConfig) else choice) or ["backprop"]


def _method(
    name: str,
    variant: str | None,
    overrides: Sequence[str],
    grid: Sequence[Override],
    tuning: Tuning,
) -> Method:
    grid = _last(grid)
    if any(isinstance(one.value(), IntervalSweep) for one in grid):
        drawn = [_drawn(one, tuning, name) for one in grid]
        combinations, points = list(zip(*drawn, strict=True)), 0
    else:
        combinations = list(itertools.product(*(alternatives(one) for one in grid)))
        points = len(combinations)
    settings = [Setting.of(lines) for lines in dict.fromkeys(combinations)]
    return Method(name, variant, tuple(overrides), tuple(settings), points)


def _drawn(one: Override, tuning: Tuning, name: str) -> list[str]:
    """As many values of a hyper-parameter as there are settings: of a range, or of a list."""
    key, value = one.get_key_element(), one.value()
    generator = streams.generator(tuning.draw, f"tuning of {name}: {key}")
    if not isinstance(value, IntervalSweep):
        lines = alternatives(one)
        return [lines[i] for i in generator.integers(0, len(lines), tuning.settings)]
    low, high = float(value.start or 0), float(value.end or 0)
    if not low < high or ("log" in value.tags and low <= 0):
        raise ConfigError(key, one.input_line, "must be interval(low,high) with low < high, above 0 with tag(log,...)")
    draws = generator.random(tuning.settings)
    if "log" in value.tags:
        values = np.exp(np.log(low) + draws * (np.log(high) - np.log(low)))
    else:
        values = low + draws * (high - low)
    return [f"{key}={float(f'{number:.3g}')!r}" for number in values]


def fewer(method: Method, settings: Sequence[Setting], tuning: Tuning) -> list[Setting]:
    """Of a method's different settings as many as the budget has, drawn by its seed, in their order."""
    if len(settings) <= tuning.settings:
        return list(settings)
    generator = streams.generator(tuning.draw, f"tuning of {method.name}")
    return [settings[i] for i in sorted(generator.permutation(len(settings))[: tuning.settings])]


def _text(one: Override) -> str:
    return alternatives(one)[0]


def _last(overrides: Sequence[Override]) -> list[Override]:
    """Of overrides of one key the last."""
    return list({one.get_key_element(): one for one in overrides}.values())


def _plain(node: Any, key: str) -> dict[str, Any]:
    value: Any = OmegaConf.to_container(node) if isinstance(node, DictConfig) else node
    if value is not None and not isinstance(value, dict):
        raise ConfigError(key, value, "must be a dictionary")
    return {str(name): one for name, one in (value or {}).items()}


def _integers(key: str, given: Any) -> list[int]:
    """1000,1001 or [1000,1001]."""
    values = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    try:
        found = [int(str(value)) for value in values]
    except ValueError:
        raise ConfigError(key, given, "must be whole numbers, such as [1000,1001,1002]") from None
    if not found or len(set(found)) < len(found):
        raise ConfigError(key, given, "must be different seeds, one at least")
    return [checks.integer(f"{key}[{i}]", value, 0) for i, value in enumerate(found)]
