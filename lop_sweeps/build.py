"""From configuration nodes to objects: the one place where a `_target_` becomes something, and where it is named.

A configuration may come from somebody else: a run's folder, a config folder on the search path. So a target is what
`KINDS` says of its place in the configuration and nothing else, and that is checked before anything of it runs: a
class, defined in this project's modules of its kind or under a prefix that the *caller* trusts. What a file says that
it trusts is never asked. Options are values; a `_target_` among them is not looked at.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from typing import Any

from lop_sweeps.errors import FULL_ERROR, ConfigError, LopError
from lop_sweeps.own_modules import find_here, how_to_find

OWN = "lop_sweeps"


@dataclass(frozen=True)
class Kind:
    """What a target at one place of the configuration must be.

    package: whose modules hold this project's classes of the kind. base: the class (module and name) that they are
    subclasses of, if there is one; needs: the attributes that the class has, and derive: from what one best derives it.
    """

    name: str
    package: str
    base: str | None = None
    needs: tuple[str, ...] = ()
    derive: str = ""


# By the path, or by its first key: `algorithm.l2_init` is an algorithm.
KINDS = {
    "benchmark.data": Kind("a data set", "lop_sweeps.datasets", "lop_sweeps.datasets.dataset.DataSet"),
    "benchmark.change": Kind("a change", "lop_sweeps.changes", "lop_sweeps.changes.change.Change"),
    "benchmark": Kind(
        "a benchmark",
        "lop_sweeps.benchmarks",
        needs=("protocol", "check_data", "load"),
        derive="lop_sweeps.benchmarks.benchmark.OnlineBenchmark, say",
    ),
    "network": Kind("a network", "lop_sweeps.networks", "lop_sweeps.networks.network.Network"),
    "optimizer": Kind(
        "an optimiser",
        "lop_sweeps.optimizers",
        needs=("PER_RUN", "pack"),
        derive="lop_sweeps.optimizers.optimizer.Optimizer",
    ),
    "algorithm": Kind(
        "an intervention",
        "lop_sweeps.algorithms",
        needs=("PER_RUN", "check", "pack"),
        derive="lop_sweeps.algorithms.one_run.OneRun",
    ),
    "diagnostics": Kind("a diagnostic", "lop_sweeps.diagnostics", "lop_sweeps.diagnostics.diagnostic.Diagnostic"),
    "agent": Kind("an agent", "lop_sweeps.agents", "lop_sweeps.agents.ppo.PPO"),
    "tracking": Kind("a tracking", "lop_sweeps.tracking", "lop_sweeps.tracking.wandb.Wandb"),
}


def kind_at(path: str) -> Kind:
    """What belongs at a place of the configuration."""
    return KINDS[path] if path in KINDS else KINDS[path.partition(".")[0]]


def check_trusted(names: Any) -> tuple[str, ...]:
    """The module prefixes that a caller trusts; raises `ConfigError` for what is no list of module names."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError("trusted", names, "must be a list of module names, such as [my_package]")
    for name in names:
        if not _is_dotted(name):
            raise ConfigError("trusted", name, "is not the name of a module, such as my_package")
        if _is_under(name, OWN):
            raise ConfigError("trusted", name, "need not be trusted: name the modules that are yours")
    return tuple(names)


def locate(node: Mapping[str, Any], path: str, trusted: Sequence[str] = ()) -> Any:
    """The class that `node._target_` names: one of the kind that belongs at `path`.

    trusted: module prefixes that the caller trusts. Modules of others are not imported; theirs may lie in the current
    folder.
    Raises `ConfigError` naming the key, the target and what is allowed.
    """
    key, target, kind = f"{path}._target_", node.get("_target_"), kind_at(path)
    if not isinstance(target, str) or "." not in target or not _is_dotted(target):
        raise ConfigError(key, target, "must be a dotted path to a class, such as package.module.Class")
    prefixes = [kind.package, *check_trusted(trusted)]
    if not any(_is_under(target, prefix) for prefix in prefixes):
        module = target.partition(".")[0]
        advice = (
            "" if module == OWN else f"; for code of yours, add your module's name to `trusted`: trusted=[{module}]"
        )
        raise ConfigError(key, target, f"must be {kind.name} of {' or '.join(prefixes)}{advice}")
    find_here(trusted)
    found = _import(target, key)
    if not isinstance(found, type):
        raise ConfigError(key, target, f"must be {kind.name}: it is no class")
    defined = f"{found.__module__}.{found.__qualname__}"
    own = _is_under(defined, kind.package)
    if not any(_is_under(defined, prefix) for prefix in prefixes) or (
        own and _is_under(target, OWN) and defined != target
    ):
        raise ConfigError(key, target, f"must be {kind.name} where it is defined: this is {defined}")
    if kind.base and kind.base not in {f"{one.__module__}.{one.__qualname__}" for one in found.__mro__}:
        raise ConfigError(key, target, f"must be {kind.name}: a class derived from {kind.base}")
    if lacking := [name for name in kind.needs if not hasattr(found, name)]:
        how = "" if own else f": derive it from {kind.derive}"
        raise ConfigError(key, target, f"must be {kind.name}; it has no {', '.join(lacking)}{how}")
    return found


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_under(name: str, prefix: str) -> bool:
    return f"{name}.".startswith(f"{prefix}.")


@lru_cache(maxsize=256)
def _import(target: str, key: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(key, target, f"cannot be imported: {error}{how_to_find(error)}") from error
    except (Exception, SystemExit) as error:  # whatever a user's module does when it is loaded
        raise ConfigError(key, target, f"cannot be imported: {described(error)}") from error


def forget_classes() -> None:
    """The next `locate` takes the classes that their modules have by then."""
    _import.cache_clear()


def described(error: BaseException) -> str:
    """An error of somebody's code in one line, and how to see where it came from."""
    first = str(error).strip().partition("\n")[0]  # torch adds a stack trace
    return f"{type(error).__name__}: {first} ({FULL_ERROR}=1 shows where)"


@lru_cache(maxsize=256)
def parameters(target: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a constructor."""
    return dict(inspect.signature(target).parameters)


def options(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "_target_"}


def parts_of(target: Any, path: str) -> Mapping[str, frozenset[str]]:
    """The options of an optimiser or a benchmark that are components themselves (`PARTS`); others have none."""
    found = getattr(target, "PARTS", None) if path.partition(".")[0] in ("optimizer", "benchmark") else None
    return found if isinstance(found, Mapping) else {}


def build(node: Mapping[str, Any], path: str, trusted: Sequence[str] = (), **context: Any) -> Any:
    """Call the target of `node` with its options and `context` (what the code supplies, not the user).

    Raises `ConfigError` naming the full key for an unknown or missing option or a value out of range.
    """
    target, given = locate(node, path, trusted), options(node)
    known = {name: p for name, p in parameters(target).items() if name not in context}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
    for key, value in given.items():
        if key not in known and not takes_any:
            allowed = f"is not an option of {target.__name__}{suggest(key, known)}"
            if key in getattr(target, "__annotations__", ()) and not is_dataclass(target):
                allowed += "; is @dataclass(frozen=True) missing above the class?"
            raise ConfigError(f"{path}.{key}", value, allowed)
    for name, parameter in known.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and name not in given:
            raise ConfigError(f"{path}.{name}", None, f"must be given: {target.__name__} has no default for it")
    for key in parts_of(target, path):
        if isinstance(given.get(key), Mapping):
            given[key] = build(given[key], f"{path}.{key}", trusted)
    try:
        return target(**given, **context)
    except ConfigError as error:
        raise error.under(path) from error
    except LopError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(path, given, f"{target.__name__} refuses these options: {described(error)}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(path, None, f"{target.__name__} cannot be made: {described(error)}") from error


def call(path: str, method: Any, *arguments: Any) -> Any:
    """Call a component's method; what it raises becomes a `ConfigError` under `path`."""
    try:
        return method(*arguments)
    except ConfigError as error:
        raise error.under(path) from error
    except LopError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(path, None, f"{getattr(method, '__qualname__', method)} fails: {described(error)}") from error


def suggest(key: str, known: Iterable[str]) -> str:
    """`; did you mean x? Allowed: ...`, for messages."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    return (f"; did you mean {near[0]}?" if near else ".") + f" Allowed: {', '.join(names) or 'none'}"
