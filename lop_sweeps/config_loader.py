"""Hydra's config loader, with this project's rules for what Hydra does before and after it composes.

Two of them are about trust: config folders may come from somebody else, and Hydra itself calls what it finds under
`hydra` (callbacks, logging, plugins), so that is checked before Hydra acts on it. The others are about words: a refusal
says what is allowed, and nothing that was typed is left out without one.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict

from lop_sweeps.algorithms import span
from lop_sweeps.console import unknown_choice, unknown_key
from lop_sweeps.errors import ConfigError, LopError, Refusal
from lop_sweeps.home import at_home
from lop_sweeps.optimizers import schedule

PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
OWN_LAUNCHERS = "hydra_plugins.lop_sweeps."
HANDLERS = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler")
LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"
FORMATTERS = ("colorlog.ColoredFormatter", "logging.Formatter")
# Where Hydra would have its own files; runs know nothing of them.
FOLDERS = {"run.dir": ".", "sweep.dir": "${paths.sweeps}/.launcher", "sweep.subdir": "${hydra.job.num}"}


class ReadOnce(ConfigRepository):
    """Parses each file once, however many configurations it becomes a part of: most of composing was reading YAML.

    What was read is kept pickled: each configuration needs a copy, and unpickling takes a quarter of a copy's time.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._read: dict[tuple[str, str], bytes] = {}  # by search path and file

    def load_config(self, config_path: str) -> ConfigResult | None:
        key = repr(self.sources), config_path
        if key not in self._read:
            self._read[key] = pickle.dumps(super().load_config(config_path))
        found: ConfigResult | None = pickle.loads(self._read[key])  # which Hydra composes into, and changes
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> ReadOnce:
        """Hydra copies it for every configuration, to search elsewhere; what was read is shared."""
        return copy.copy(self)


class Loader(ConfigLoaderImpl):
    """Composes configurations, all of the files as they were when first read.

    search: the line that adds to the search path, if one was given.
    """

    search: list[str]
    _values: Sequence[Override] = ()  # overrides of one value
    _composed_of: list[str]  # the files of the latest configuration, as group/choice

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = ReadOnce(config_search_path)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """As Hydra's. Raises `ConfigError` in one line, with what is allowed.

        A sweep's configuration (MULTIRUN) is that of no run: it says which sweeper and launcher there are, and what an
        experiment asks for. So values that only some of the sweep's choices have do not stand in its way.
        """
        self.search = [line for line in overrides if line.lstrip("+").startswith("hydra.searchpath=")]
        given, repository, held = overrides, None, []
        try:
            parsed = OverridesParser.create().parse_overrides(overrides)
            self._values = [one for one in parsed if not one.is_sweep_override()]
            repository = self.groups()
            if run_mode == RunMode.MULTIRUN:
                held = [one for one in parsed if _is_value(one, repository)]
                given = [str(one.input_line) for one in parsed if one not in held]
            config = super().load_configuration(config_name, given, run_mode, from_shell, validate_sweep_overrides)
        except LopError:
            raise
        except Exception as error:  # Hydra's, OmegaConf's, YAML's: of many kinds
            raise self._explained(error, config_name, overrides, repository) from error
        with flag_override(config, "struct", True):
            for one in held:
                _apply_if_possible(one, config)
        if held:
            config.hydra.overrides.task = [str(one.input_line) for one in parsed if not one.is_hydra_override()]
        self._note_lists(config)
        check_hydra(config)
        _put_at_home(config)
        return config

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        self._composed_of = [str(default.config_path) for default in defaults]
        config = super()._compose_config_from_defaults_list(defaults, repo)
        for one in self._values:
            make_room(config, one)
        return config

    def _note_lists(self, config: DictConfig) -> None:
        """Name the choices of groups in which a list was chosen, such as `algorithm`; Hydra names single ones only."""
        choices = config.hydra.runtime.choices
        groups = set(_defaults(self.repository)) - set(choices)
        with open_dict(choices):
            for start in (f"{group}/" for group in groups):
                chosen = [path.removeprefix(start) for path in self._composed_of if path.startswith(start)]
                choices[start.rstrip("/")] = chosen

    def groups(self) -> CachingConfigRepository:
        """The config groups and choices that there are, those of the search path included."""
        with warnings.catch_warnings():  # Hydra only warns of a folder that is not there
            warnings.simplefilter("ignore")
            _, repository = self._parse_overrides_and_create_caching_repo("config", getattr(self, "search", []))
        for source in repository.get_sources():
            if source.provider.startswith("hydra.searchpath") and not source.available():
                raise ConfigError("hydra.searchpath", source.path, "there is no such folder or package")
        return repository

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """As Hydra's, for globs: with the choices of the search path."""
        return list(self.groups().get_group_options(group_name, results_filter))

    def _explained(
        self,
        error: Exception,
        config_name: str | None,
        overrides: Sequence[str],
        repository: CachingConfigRepository | None,
    ) -> Refusal:
        """Hydra's refusal in one line: which choices or keys there are, where it was that."""
        if repository is not None:
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            if hint := choice_hint(repository, parsed):
                return Refusal(hint)
            if hint := self._key_hint(config_name, parsed, repository):
                return Refusal(hint)
        return Refusal(in_one_line(error))

    def _key_hint(
        self, config_name: str | None, parsed: Sequence[Override], repository: CachingConfigRepository
    ) -> str | None:
        values = [one for one in parsed if _is_value(one, repository)]
        groups = [str(one.input_line) for one in parsed if one not in values and not one.is_sweep_override()]
        try:
            base = super().load_configuration(config_name, groups, RunMode.RUN)
        except Exception:  # so it was no value
            return None
        return next((hint for one in values if (hint := key_hint(base, one))), None)


def _is_value(override: Override, repository: CachingConfigRepository) -> bool:
    """Whether it sets values of a run, rather than choosing in a group or telling Hydra something."""
    if override.is_hydra_override() or override.is_sweep_override():
        return False
    return not is_group(override, repository)


def is_group(override: Override, repository: CachingConfigRepository) -> bool:
    """Whether it chooses in a config group. A dictionary of a group's name is a value, as in Hydra."""
    if not override.is_sweep_override() and isinstance(override.value(), dict):
        return False
    return override.package is not None or bool(repository.group_exists(override.key_or_group))


def goes_with_any(path: Sequence[str]) -> bool:
    """Whether a key goes with every choice of its group: in which tasks a method acts, an optimiser's schedule."""
    if len(path) == 3 and path[0] == "algorithm":
        return path[2] in span.KEYS
    return len(path) == 2 and path[0] == "optimizer" and path[1] in schedule.KEYS


def make_room(config: DictConfig, override: Override) -> None:
    """Let an override find the place that it means.

    What goes with every choice is in no choice's file, and is set without a plus all the same. A dictionary with a
    `_target_` is another component in that place, so the options of the one that was there go.
    """
    if override.is_add() or override.is_force_add() or override.is_delete():
        return
    path = override.key_or_group.split(".")
    if goes_with_any(path):
        node = OmegaConf.select(config, ".".join(path[:-1]))
        if isinstance(node, DictConfig) and path[-1] not in node:
            with open_dict(node):
                node[path[-1]] = None
    value = override.value()
    if isinstance(value, dict) and "_target_" in value:
        node = OmegaConf.select(config, override.key_or_group)
        if isinstance(node, DictConfig) and node.get("_target_") != value["_target_"]:
            with open_dict(node):
                for key in list(node):
                    del node[key]
                for key in value:
                    node[str(key)] = None


def _apply_if_possible(override: Override, config: DictConfig) -> None:
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except HydraException:
        return  # each point of the sweep is asked again


def choice_hint(repository: CachingConfigRepository, parsed: Sequence[Override]) -> str | None:
    """What is allowed, where one of these chooses what is not there or is written with a plus too many."""
    known = {key for key in _defaults(repository)}
    for one in parsed:
        group = one.key_or_group
        if one.is_hydra_override() or not is_group(one, repository):
            continue
        if (one.is_add() or one.is_force_add()) and group in known:
            return (
                f"{one.input_line}: {group} has a choice already, so without the +: {str(one.input_line).lstrip('+')}"
            )
        if not one.is_delete() and not one.is_sweep_override() and not isinstance(one.value(), str | list):
            return f"{one.input_line}: must be a choice of the group: {', '.join(repository.get_group_options(group))}"
        if hint := unknown_choice(repository, group, _names(one)):
            return hint
    return None


def _defaults(repository: IConfigRepository) -> Iterator[str]:
    """The groups of the primary configuration's defaults list."""
    found = repository.load_config("config")
    for entry in found.defaults_list if found and found.defaults_list else ():
        group = getattr(entry, "group", None)
        if group:
            yield str(group)


def _names(override: Override) -> list[str]:
    """The choices that an override of a group names, in lists and sweeps, too."""
    value: Any = override.value()
    given = value.list if isinstance(value, ChoiceSweep) else [value]
    flat = [name for item in given for name in (item if isinstance(item, list) else [item])]
    texts = [name.text if isinstance(name, QuotedString) else name for name in flat]
    return [name for name in texts if isinstance(name, str)]


def key_hint(config: DictConfig, override: Override) -> str | None:
    """Which keys there are, where an override sets one that is not there."""
    if override.is_add() or override.is_force_add() or override.is_delete():
        return None
    return unknown_key(config, override.key_or_group)


def in_one_line(error: BaseException) -> str:
    """What Hydra or a library says, without its line breaks."""
    if isinstance(error, OverrideParseException):
        first, second, *_ = [*error.message.splitlines(), ""]
        said = second if first.startswith("Error parsing") else "is not Hydra's syntax"
        return f"{error.override}: {said} (a value with special characters needs quotes of its own: 'key=\"a: b\"')"
    causes = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    return " ".join(" ".join(causes).split()) or type(error).__name__


def check_hydra(config: DictConfig) -> None:
    """Refuse what Hydra would call, and what it would be told in vain. Raises `ConfigError`."""
    node: Any = OmegaConf.to_container(config.hydra, resolve=False)
    if node.get("callbacks"):
        raise ConfigError("hydra.callbacks", list(node["callbacks"]), "must be empty: lop calls no callbacks")
    if node["job"].get("env_set"):
        allowed = "must be empty: set variables in the shell, before lop"
        raise ConfigError("hydra.job.env_set", list(node["job"]["env_set"]), allowed)
    for key in ("launcher", "sweeper"):
        plugin = node.get(key) or {}
        if not str(plugin.get("_target_")).startswith(PLUGINS):
            raise ConfigError(f"hydra.{key}._target_", plugin.get("_target_"), "must be a plugin of hydra_plugins")
        for path, value in _mappings({name: item for name, item in plugin.items() if name != "_target_"}, ""):
            if "_target_" in value:
                raise ConfigError(
                    f"hydra.{key}{path}._target_", value["_target_"], "must not be there: it is an option"
                )
    for key in ("job_logging", "hydra_logging"):
        for path, value in _mappings(node.get(key) or {}, f"hydra.{key}"):
            for name, callables in (("()", FORMATTERS), ("class", HANDLERS)):
                if name in value and value[name] not in callables:
                    raise ConfigError(f"{path}.{name}", value[name], f"must be one of: {', '.join(callables)}")
            if value.get("filename", LOG_FILE) != LOG_FILE:
                raise ConfigError(f"{path}.filename", value["filename"], f"must be {LOG_FILE}")
    if str(node["launcher"]["_target_"]).startswith(OWN_LAUNCHERS):
        _check_folders(node)


def _check_folders(node: Any) -> None:
    for key, usual in FOLDERS.items():
        section, _, name = key.partition(".")
        if (value := (node.get(section) or {}).get(name)) != usual:
            raise ConfigError(f"hydra.{key}", value, "has no effect here: runs go to <paths.sweeps>/<sweep>")
    if node["job"].get("chdir"):
        raise ConfigError("hydra.job.chdir", True, "must be false: runs go to <paths.sweeps>/<sweep>")


def _mappings(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping in `value`, however deep, with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from _mappings(item, f"{path}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _mappings(item, f"{path}[{i}]")


def _put_at_home(config: DictConfig) -> None:
    """Hydra's launchers put files below `paths.sweeps` themselves."""
    sweeps = OmegaConf.to_container(config, resolve=False).get("paths", {}).get("sweeps")  # type: ignore[union-attr]
    if isinstance(sweeps, str) and sweeps.startswith("~"):
        config.paths.sweeps = at_home("paths.sweeps", sweeps)
