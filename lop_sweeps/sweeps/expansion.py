"""From a command line to the overrides of each point: variants, sweeps, and what is given twice.

Hydra applies overrides one after another, so a later value replaces an earlier one, and a later dictionary is merged
into it. A sweep does the same at each of its points.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from lop_sweeps.build import check_trusted
from lop_sweeps.errors import ConfigError

Overrides = list[str]


@dataclass(frozen=True)
class _Given:
    """An override and where it stands: in the sweeper's parameters, a variant, or the command line."""

    override: Override
    source: str

    def replaces(self, earlier: _Given) -> bool:
        """Whether nothing is left of an earlier override: the same thing, set to another value that is no dictionary.

        Adding or deleting twice in one place is a mistake that Hydra names; over a variant's, it is the later's.
        """
        if _holds_dictionary(self.override) or _holds_dictionary(earlier.override):
            return False  # a group may have the name of a dictionary: optimizer=adam, optimizer={step_size: 0.1}
        same = earlier.override.get_key_element() == self.override.get_key_element()
        twice = (self.override.is_add() or self.override.is_delete()) and self.source == earlier.source
        return same and not twice


def _holds_dictionary(override: Override) -> bool:
    value: Any = override.value()
    return isinstance(value, dict) or (isinstance(value, ChoiceSweep) and any(isinstance(x, dict) for x in value.list))


def expand(
    loader: ConfigLoader,
    variants: Mapping[str | None, Sequence[str]],
    params: Mapping[str, Any],
    arguments: Sequence[str],
) -> Iterator[tuple[str | None, Overrides]]:
    """Every combination of the sweeper's `params`, a variant's overrides and the command line; later ones win."""
    parser = OverridesParser.create(config_loader=loader)

    def parse(lines: Sequence[str], source: str) -> list[_Given]:
        parsed = parser.parse_overrides([str(line) for line in lines])
        if source != "command line" and any(one.key_or_group == "trusted" for one in parsed):
            raise ConfigError(f"{source}: trusted", None, TRUST_IS_TYPED)
        return [_Given(one, source) for one in parsed]

    before = parse([f"{key}={value}" for key, value in params.items()], "hydra.sweeper.params")
    typed = parse(arguments, "command line")
    for name, overrides in variants.items():
        if not isinstance(overrides, Sequence) or isinstance(overrides, str):
            raise ConfigError(f"variants.{name}", overrides, "must be a list of overrides, such as [algorithm=l2]")
        kept: list[_Given] = []
        for given in (*before, *parse(overrides, f"variants.{name}"), *typed):
            kept = [earlier for earlier in kept if not given.replaces(earlier)]
            kept.append(given)
        for combination in itertools.product(*(alternatives(given.override) for given in kept)):
            yield name, list(combination)


def given_again(arguments: Sequence[str]) -> list[str]:
    """A line for each override of a command line that a later one replaces, so that it has no effect."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(arguments))
    except HydraException:  # which is refused when it is composed
        return []
    given = [_Given(one, "command line") for one in parsed]
    lines = []
    for i, earlier in enumerate(given):
        later = [one.override.input_line for one in given[i + 1 :] if one.replaces(earlier)]
        if later and later[-1] != earlier.override.input_line:
            lines.append(f"{earlier.override.input_line} has no effect: {later[-1]} comes later")
    return lines


def alternatives(override: Override) -> Overrides:
    """The overrides, of one value each, that a sweep stands for; itself if it is none."""
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


# --- variants ---


def variants_of(config: DictConfig) -> dict[str | None, Sequence[str]]:
    """Name -> overrides, as an experiment has them; without any, one that is called None."""
    variants: Any = config.get("variants") or {None: []}
    if isinstance(variants, DictConfig):
        variants = OmegaConf.to_container(variants)
    if not isinstance(variants, dict):
        raise ConfigError("variants", variants, "must map names to lists of overrides")
    return variants


def asked_variants(arguments: Sequence[str]) -> tuple[list[str | Glob] | None, Overrides]:
    """The names (or patterns) of `variant=...` on a command line, None if it is not there; and the other arguments."""
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    mine = [one for one in parsed if one.key_or_group == "variant"]
    rest = [str(one.input_line) for one in parsed if one.key_or_group != "variant"]
    if not mine or mine[-1].is_delete():
        return None, rest
    value: Any = mine[-1].value()
    if isinstance(value, Glob):
        return [value], rest
    if mine[-1].is_sweep_override():
        value = list(mine[-1].sweep_iterator())
    names = [name for item in (value if isinstance(value, list) else [value]) for name in _flat(item)]
    return (None if names == ["None"] else names), rest


def _flat(item: Any) -> list[str | Glob]:
    if isinstance(item, list):
        return [name for one in item for name in _flat(one)]
    return [item.text if isinstance(item, QuotedString) else str(item)]


def choose_variants(
    variants: Mapping[str | None, Sequence[str]], asked: Sequence[str | Glob] | None
) -> dict[str | None, Sequence[str]]:
    """Those variants that were asked for, in the experiment's order; raises `ConfigError` for an unknown one."""
    if asked is None:
        return dict(variants)
    names = {str(name): name for name in variants if name is not None}
    wanted: set[str] = set()
    for one in asked:
        found = one.filter(list(names)) if isinstance(one, Glob) else [one] if one in names else []
        if not found:
            allowed = f"must be one of: {', '.join(names)}" if names else "no variants here: name their experiment, too"
            raise ConfigError("variant", one if isinstance(one, str) else one.include, allowed)
        wanted.update(found)
    return {name: variants[name] for text, name in names.items() if text in wanted}


def variant_line(name: str) -> str:
    """The override that chooses one variant, whatever letters its name has."""
    quoted = str(name).replace("\\", "\\\\").replace("'", "\\'")
    return f"variant='{quoted}'"


# --- trust ---

TRUST_IS_TYPED = "is believed where it is typed only, not in a file: lop trusted=[my_idea] ..."


def trusted_by(arguments: Sequence[str]) -> tuple[str, ...]:
    """The modules that a command line trusts. Raises `ConfigError` unless they are one list of module names."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(arguments))
    except HydraException:  # which is refused when it is composed
        return ()
    mine = [one for one in parsed if one.key_or_group == "trusted"]
    if not mine or mine[-1].is_delete():
        return ()
    if mine[-1].is_sweep_override():
        raise ConfigError("trusted", mine[-1].input_line, "must be one list for the whole sweep, such as [my_package]")
    return check_trusted(mine[-1].value())
