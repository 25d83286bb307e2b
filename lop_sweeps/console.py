"""How commands end: one clear message and an exit code for what the user can put right."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from lop_sweeps.errors import FULL_ERROR, ConfigError, Interrupted, LopError

INTERRUPTED, WRONG, FAILED = 130, 2, 1  # exit codes

_tracebacks: ContextVar[bool] = ContextVar("tracebacks")  # whether the user asked for them, while Hydra is told so

P = ParamSpec("P")
R = TypeVar("R")


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turn `LopError` and Hydra's own errors into a message on stderr and `SystemExit`.

    The traceback is shown, too, where the user has asked for it by HYDRA_FULL_ERROR=1.
    """

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
            code = WRONG if isinstance(error, ConfigError) else FAILED
            failure: Exception = error
        except Exception as error:
            if "hydra.errors" not in sys.modules or not isinstance(error, sys.modules["hydra.errors"].HydraException):
                raise
            code, failure = WRONG, error
        if _tracebacks.get(os.environ.get(FULL_ERROR) == "1"):
            traceback.print_exception(failure)
        sys.stderr.write(f"lop: {' '.join(str(failure).split()) if code == WRONG else failure}\n")
        raise SystemExit(code)

    return wrapped


@contextlib.contextmanager
def errors_of_hydra() -> Iterator[None]:
    """Let Hydra pass errors on, to be explained, instead of printing a traceback and leaving."""
    before = os.environ.get(FULL_ERROR)
    token = _tracebacks.set(before == "1")
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        _tracebacks.reset(token)
        os.environ.pop(FULL_ERROR)
        if before is not None:
            os.environ[FULL_ERROR] = before


def closing_quietly(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose output may go to `head`: no traceback when nobody reads any more."""

    @functools.wraps(command)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            try:
                return command(*arguments, **named)
            finally:  # argparse's --help leaves by SystemExit
                if sys.stdout is not None:
                    sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes when it ends
            raise SystemExit(0) from None

    return wrapped


def unknown_choice(repository: Any, group: str, choices: Iterable[str]) -> str | None:
    """What is allowed where one of `choices` does not exist in a config group; None if all do."""
    from hydra.core.object_type import ObjectType

    for choice in choices:
        if not repository.config_exists(f"{group}/{choice}"):
            folders = [f"{name}/..." for name in repository.get_group_options(group, ObjectType.GROUP)]
            allowed = ", ".join([*repository.get_group_options(group), *folders])
            here = os.path.exists(f"conf/{group}/{choice}.yaml")
            advice = "; yours is in conf: add --config-dir conf" if here else ""
            near = difflib.get_close_matches(choice, repository.get_group_options(group), n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            return f"{group} = {choice!r}: must be one of: {allowed}{advice or meant}"
    return None


def unknown_key(config: Any, key: str) -> str | None:
    """What is allowed where `key` (a.b.c) does not exist in a configuration; None if it does."""
    from omegaconf import DictConfig, OmegaConf

    from lop_sweeps.algorithms import span
    from lop_sweeps.build import suggest
    from lop_sweeps.optimizers import schedule

    beside = {("optimizer", 1): schedule.KEYS, ("algorithm", 2): span.KEYS}  # by group and depth: of every choice
    node = config
    path = key.split(".")
    for i, part in enumerate(path):
        if not isinstance(node, DictConfig):
            return f"{'.'.join(path[:i])} has no keys below it"
        if part not in node:
            where = ".".join(path[:i]) or "the configuration"
            known = {str(name) for name in node if name != "hydra"}.union(beside.get((path[0], i), ()))
            return f"{key}: {where} has no key {part!r}{suggest(part, known)}"
        node = OmegaConf.select(config, ".".join(path[: i + 1]), throw_on_resolution_failure=False)
    return None
