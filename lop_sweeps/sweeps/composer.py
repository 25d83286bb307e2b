"""Composes the points of a sweep: each combination of config-group choices once, values on copies.

Composing a point takes Hydra about a tenth of a second.
"""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lop_sweeps.build import locate, parameters
from lop_sweeps.config_loader import Loader, choice_hint, goes_with_any, in_one_line, is_group, key_hint, make_room
from lop_sweeps.errors import ConfigError, Refusal
from lop_sweeps.home import at_home
from lop_sweeps.sweeps.expansion import TRUST_IS_TYPED, Overrides
from lop_sweeps.sweeps.planning import Point, check_scale, make_point, resolve

log = logging.getLogger("lop")

NO_SCALES = "the benchmark has no table of lengths (scales)"
COMPONENTS = ("benchmark", "network", "optimizer", "agent", "tracking")
KEYED = ("algorithm", "diagnostics")  # each key of these is one, too


class Base(NamedTuple):
    """What choices in config groups compose to, without and with Hydra's part, pickled too; and the choice by group."""

    config: DictConfig
    pickled: bytes
    whole: DictConfig
    choices: dict[str, Any]


class Composer:
    """loader, master: of the sweep. trusted: module prefixes that the caller trusts."""

    def __init__(self, loader: Loader, master: DictConfig, trusted: Sequence[str] = ()) -> None:
        self.loader, self.master, self.trusted = loader, master, tuple(trusted)
        self.parser = OverridesParser.create(config_loader=loader)
        self.repository: CachingConfigRepository = loader.groups()
        self.bases: dict[tuple[str, ...], Base] = {}
        self.groups: dict[str, bool] = {}
        self.said: set[str] = set()
        self.parsed: dict[str, Override] = {}
        self.resolved: dict[tuple[bool, tuple[str, ...]], tuple[dict[str, Any], dict[str, Any], list[str]]] = {}

    def point(
        self, variant: str | None, overrides: Overrides, left_out: list[str] | None = None, *, data: bool = True
    ) -> Point:
        """The checked point of these overrides.

        left_out: takes those that set what this point's choices do not have; without it, they are refused.
        data: also check that the data set is there.
        """
        try:
            plain, choices, absent = self._resolve(overrides, strict=left_out is None)
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: Hydra's, for network=null
            hint = choice_hint(self.repository, self._parse(overrides))
            raise Refusal(hint or f"{' '.join(overrides)}: {in_one_line(error)}") from error
        if left_out is not None:
            left_out += absent
        return make_point(resolve({**plain, "variant": variant}, choices), self.trusted, data=data)

    def refusal(self, overrides: Overrides, absent: str) -> Refusal:
        """Why an override sets nothing at a point."""
        base = self._base(overrides).config
        (one,) = self._parse([absent])
        what = "there is nothing to delete" if one.is_delete() else "nothing here has all these keys"
        return Refusal(key_hint(base, one) or f"{absent}: {what}")

    def depth(self, line: str, overrides: Overrides) -> int:
        """How many parts of an override's path (a.b.c) there are at a point."""
        base = self._base(overrides).config
        path = self._parse([line])[0].key_or_group.split(".")
        return max(n for n in range(len(path) + 1) if _has(base, path[:n]))

    def choices_of(self, overrides: Overrides) -> tuple[str, ...]:
        """Those overrides that choose in config groups."""
        return tuple(line for line, one in zip(overrides, self._parse(overrides), strict=True) if self._is_group(one))

    def _resolve(self, overrides: Overrides, *, strict: bool) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """The resolved configuration, choices, and overrides of what is not there.

        Points that differ in their seed alone share the work.
        """
        rest = strict, tuple(line for line in overrides if not line.startswith("seed="))
        seeds = [self._parse([line])[0].value() for line in overrides if line.startswith("seed=")]
        if len(seeds) == 1 and rest in self.resolved:
            plain, choices, absent = self.resolved[rest]
            return {**plain, "seed": seeds[0]}, choices, absent
        config, choices, absent = self._compose(overrides, strict=strict)
        raw: Any = OmegaConf.to_container(config)
        if any(line.startswith("scale=") for line in overrides) and "scales" not in (raw.get("benchmark") or {}):
            self._say(f"{NO_SCALES}: scale={raw.get('scale')} does nothing")
        if "${hydra:" in repr(raw):
            self._show_hydra(overrides)
        plain = interpolate(config, raw, self.trusted)
        if not any("seed" in text or "hydra:" in text for text in _interpolations(raw)):  # nothing else depends on it
            self.resolved[rest] = plain, choices, absent
        return plain, choices, absent

    def _say(self, line: str) -> None:
        """Once for all points."""
        if line not in self.said:
            log.warning(line)
            self.said.add(line)

    def compose(self, overrides: Overrides) -> tuple[DictConfig, dict[str, Any]]:
        """The configuration of these overrides, and the choice made in each group."""
        config, choices, _ = self._compose(overrides, strict=True)
        return config, choices

    def _compose(self, overrides: Overrides, *, strict: bool) -> tuple[DictConfig, dict[str, Any], list[str]]:
        """Configuration, choices, and the overrides of what is not there; strict: which are refused.

        What is added to a component that does not take it is refused by the component itself, in better words.
        """
        base = self._base(overrides)
        config: DictConfig = pickle.loads(base.pickled)  # a copy, in a sixth of the time of a deep one
        absent = []
        parsed = self._parse(overrides)
        for line, one in zip(overrides, parsed, strict=True):
            if self._is_group(one):
                continue
            make_room(config, one)
            if self._is_absent(config, one, parsed, strict=strict):
                if strict:
                    raise self.refusal(overrides, line)
                absent.append(line)
            else:
                ConfigLoaderImpl._apply_overrides_to_config([one], config)
        return config, base.choices, absent

    def _base(self, overrides: Overrides) -> Base:
        """Of the overrides that choose in groups."""
        choices = self.choices_of(overrides)
        if choices not in self.bases:
            given: Any = OmegaConf.to_container(self.master.hydra.overrides.hydra)
            composed = self.loader.load_configuration(
                self.master.hydra.job.config_name, [*given, *choices], RunMode.RUN
            )
            chosen = OmegaConf.to_container(composed.hydra.runtime.choices)
            assert isinstance(chosen, dict)
            whole = copy.deepcopy(composed)
            with open_dict(composed):
                del composed["hydra"]
            by_group = {str(group): choice for group, choice in chosen.items()}
            self.bases[choices] = Base(composed, pickle.dumps(composed), whole, by_group)
        return self.bases[choices]

    def _is_absent(self, config: DictConfig, override: Override, others: Sequence[Override], *, strict: bool) -> bool:
        """Whether an override sets, adds to or deletes what this point's choices do not have."""
        path = override.key_or_group.split(".")
        if override.is_add() or override.is_force_add():
            return not strict and self._adds_to_nothing(config, path, others)
        if not _has(config, path):
            return True
        value = override.value()
        return isinstance(value, dict) and not _has_keys(OmegaConf.select(config, override.key_or_group), value)

    def _adds_to_nothing(self, config: DictConfig, path: Sequence[str], others: Sequence[Override]) -> bool:
        """Whether an option is added to a component that is not there, or has no such option."""
        depth = 2 if path[0] in KEYED else 1
        if path[0] not in (*COMPONENTS, *KEYED) or len(path) <= depth or path[depth] == "_target_":
            return False
        root = ".".join(path[:depth])
        if any(one.key_or_group in (root, f"{root}._target_") for one in others if not self._is_group(one)):
            return False  # it comes with a class of its own
        node: Any = OmegaConf.select(config, root) if _has(config, path[:depth]) else None
        if not isinstance(node, DictConfig):
            return True
        if path[depth] in node:
            return False
        if goes_with_any(path):
            return False
        try:
            return path[depth] not in parameters(locate({"_target_": node.get("_target_")}, root, self.trusted))
        except ConfigError:
            return False  # which is said when the point is checked

    def _show_hydra(self, overrides: Overrides) -> None:
        """Let ${hydra:...} of this point's configuration see what it would see in a run by itself."""
        whole = copy.deepcopy(self._base(overrides).whole)
        OmegaConf.set_readonly(whole.hydra, False)
        whole.hydra.overrides.task = list(overrides)
        how = whole.hydra.job.config.override_dirname
        whole.hydra.job.override_dirname = get_overrides_dirname(
            overrides=self._parse(overrides), kv_sep=how.kv_sep, item_sep=how.item_sep, exclude_keys=how.exclude_keys
        )
        HydraConfig.instance().set_config(whole)

    def _parse(self, overrides: Sequence[str]) -> list[Override]:
        """A sweep's points are made of few different lines, and parsing one takes a millisecond."""
        for line in overrides:
            if line not in self.parsed:
                self.parsed[line] = self.parser.parse_override(line)
        return [self.parsed[line] for line in overrides]

    def _is_group(self, override: Override) -> bool:
        line = str(override.input_line)
        if line not in self.groups:
            self.groups[line] = is_group(override, self.repository)
        return self.groups[line]


def _interpolations(raw: Any) -> Iterator[str]:
    """The texts of a configuration in which something is to be replaced: `${seed}`, `${oc.select:seed,0}`."""
    if isinstance(raw, str) and "${" in raw:
        yield raw
    elif isinstance(raw, dict | list):
        for item in raw.values() if isinstance(raw, dict) else raw:
            yield from _interpolations(item)


def _has(config: Any, path: Sequence[str]) -> bool:
    for part in path:
        if isinstance(config, ListConfig) and part.isdecimal() and int(part) < len(config):
            config = config._get_node(int(part))
        elif isinstance(config, DictConfig) and part in config:
            config = config._get_node(part)
        else:
            return False
    return True


def _has_keys(node: Any, values: Mapping[Any, Any]) -> bool:
    """Whether a dictionary of values sets only what is there."""
    if not isinstance(node, DictConfig):
        return True
    return all(
        key in node and (not isinstance(value, dict) or _has_keys(node._get_node(key), value))
        for key, value in values.items()
    )


def interpolate(config: DictConfig, raw: dict[str, Any], trusted: Sequence[str]) -> dict[str, Any]:
    """The composed configuration with every ${key}, which `raw` still has, replaced by its value.

    trusted: what the caller trusts; a configuration that trusts more is refused.
    """
    for key in ("benchmark", "scale"):  # what the interpolations of a benchmark's lengths need
        if raw.get(key) is None:
            raise ConfigError(key, None, f"must be given: {key}=...")
    scales = raw["benchmark"].get("scales") if isinstance(raw["benchmark"], dict) else None
    check_scale(raw, scales)
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(error.full_key or "the configuration", None, str(error).splitlines()[0]) from error
    _check_trust(resolved.get("trusted"), trusted)
    if isinstance(paths := resolved.get("paths"), Mapping):
        homely = {name: at_home(f"paths.{name}", path) for name, path in paths.items() if isinstance(path, str)}
        resolved["paths"] = {**paths, **homely}
    return dict(resolved)


def _check_trust(stated: Any, trusted: Sequence[str]) -> None:
    names = stated if isinstance(stated, list) else [stated] if stated else []
    if any(name not in trusted for name in names):
        raise ConfigError("trusted", stated, TRUST_IS_TYPED)
