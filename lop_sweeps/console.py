"""How commands end: one clear message and an exit code for what the user can put right."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from lop_sweeps.errors import ConfigError, Interrupted, LopError

INTERRUPTED, WRONG, FAILED = 130, 2, 1  # exit codes

P = ParamSpec("P")
R = TypeVar("R")


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turn `LopError` into a message on stderr and `SystemExit`, without a traceback."""

    @functools.wraps(command)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return command(*arguments, **named)
        except Interrupted as error:
            sys.stderr.write(f"lop: {error}\n")
            raise SystemExit(INTERRUPTED) from None
        except KeyboardInterrupt:  # while planning; runners turn it into `Interrupted`
            sys.stderr.write("lop: stopped before anything ran\n")
            raise SystemExit(INTERRUPTED) from None
        except LopError as error:
            sys.stderr.write(f"lop: {error}\n")
            raise SystemExit(WRONG if isinstance(error, ConfigError) else FAILED) from None

    return wrapped


def unknown_choice(loader: Any, group: str, choices: Iterable[str]) -> str | None:
    """What is allowed where one of `choices` does not exist in a config group; None if all do."""
    from hydra.core.object_type import ObjectType

    for choice in choices:
        if not loader.repository.config_exists(f"{group}/{choice}"):
            folders = [f"{name}/..." for name in loader.get_group_options(group, ObjectType.GROUP)]
            allowed = ", ".join([*loader.get_group_options(group), *folders])
            return f"{group} = {choice!r}: must be one of: {allowed}"
    return None


def unknown_key(config: Any, key: str) -> str | None:
    """What is allowed where `key` (a.b.c) does not exist in a configuration; None if it does."""
    from omegaconf import DictConfig, OmegaConf

    from lop_sweeps.build import suggest

    node = config
    path = key.split(".")
    for i, part in enumerate(path):
        if not isinstance(node, DictConfig):
            return f"{'.'.join(path[:i])} has no keys below it"
        if part not in node:
            where = ".".join(path[:i]) or "the configuration"
            return f"{key}: {where} has no key {part!r}{suggest(part, (str(name) for name in node if name != 'hydra'))}"
        node = OmegaConf.select(config, ".".join(path[: i + 1]), throw_on_resolution_failure=False)
    return None
