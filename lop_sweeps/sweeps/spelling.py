"""Overrides that are given in Python, spelt as on the command line.

A text is an override as one types it. A mapping is one override for each of its keys:

| value                                | means                                                     |
|--------------------------------------|-----------------------------------------------------------|
| None, True, 3, 0.1, "mlp", a path    | that value                                                |
| a list: ["l2", "continual_backprop"] | one value that is a list: a combination of algorithms     |
| a mapping: {"step_size": 0.1}        | these keys of what is there                               |
| a tuple, a range or an array         | several values: in a sweep one run (at least) for each    |
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lop_sweeps.errors import ConfigError
from lop_sweeps.home import argument_at_home

Given = str | Mapping[str, Any]

WORD = re.compile(r"[A-Za-z_][\w./-]*")
OTHERS = ("null", "true", "false", "nan", "inf")  # words that are no text in Hydra's grammar


def lines_of(given: Iterable[Given]) -> list[str]:
    """One line of Hydra's grammar for each override. Raises `ConfigError` for what cannot be said in it."""
    lines: list[str] = []
    for one in given:
        if isinstance(one, Mapping):
            lines += [f"{key}={_values(str(key), value)}" for key, value in one.items()]
        elif not isinstance(one, str):
            allowed = "must be texts such as 'seed=1', or mappings such as {'seed': 1}"
            raise ConfigError("overrides", one, allowed)
        elif one.startswith("-"):
            raise ConfigError("overrides", one, "is a flag of the command lop, and no override")
        else:
            lines.append(argument_at_home(one))
    return lines


def _values(key: str, value: Any) -> str:
    if not isinstance(value, str | Mapping | list) and hasattr(value, "tolist"):
        value = tuple(value.tolist()) if getattr(value, "ndim", 1) else value.tolist()
    if not isinstance(value, tuple | range):
        return _value(key, value)
    if not value:
        raise ConfigError(key, value, "sweeps over nothing")
    return ",".join(_value(key, one) for one in value)


def _value(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{_value(key, item)}' for name, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(_value(key, item) for item in value)}]"
    if not isinstance(value, str) and hasattr(value, "tolist"):  # a number of numpy's
        value = value.tolist()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, str | Path):
        return _text(str(value))
    raise ConfigError(key, value, f"is no value of an override: its type is {type(value).__name__}")


def _text(text: str) -> str:
    """A text that stays one, whatever it looks like. In quotes Hydra reads backslashes in front of a quote only."""
    if WORD.fullmatch(text) and text.lower() not in OTHERS:
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"
