"""From configuration nodes to objects: the one place where a `_target_` becomes something, and where it is named.

Hydra 1.4 and 1.5 restrict which targets may be instantiated; here only this project's and torch's modules are, and
those under prefixes that the user lists in `trusted`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from lop_sweeps.errors import ConfigError, LopError

TRUSTED = ("lop_sweeps", "torch")


def locate(node: Mapping[str, Any], path: str, trusted: Sequence[str] = ()) -> Any:
    """The class or function that `node._target_` names."""
    target = node.get("_target_")
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(f"{path}._target_", target, "must be a dotted path to a class, such as package.module.Class")
    prefixes = (*TRUSTED, *trusted)
    if not any(target.startswith(prefix.rstrip(".") + ".") for prefix in prefixes):
        allowed = f"must be under {', '.join(prefixes)}; add your module's name to `trusted` to allow it"
        raise ConfigError(f"{path}._target_", target, allowed)
    return _import(target, path)


@lru_cache(maxsize=256)
def _import(target: str, path: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path}._target_", target, f"cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"{path}._target_", target, "is neither a class nor a function")
    return found


@lru_cache(maxsize=256)
def parameters(target: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a constructor."""
    return dict(inspect.signature(target).parameters)


def options(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "_target_"}


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
            raise ConfigError(f"{path}.{key}", value, allowed)
    for name, parameter in known.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and name not in given:
            raise ConfigError(f"{path}.{name}", None, f"must be given: {target.__name__} has no default for it")
    try:
        return target(**given, **context)
    except ConfigError as error:
        raise error.under(path) from error
    except LopError:
        raise
    except (TypeError, ValueError) as error:
        first_line = str(error).partition("\n")[0]  # torch adds a stack trace
        raise ConfigError(path, given, f"{target.__name__} refuses these options: {first_line}") from error


def suggest(key: str, known: Iterable[str]) -> str:
    """`; did you mean x? Allowed: ...`, for messages."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    return (f"; did you mean {near[0]}?" if near else ".") + f" Allowed: {', '.join(names) or 'none'}"
