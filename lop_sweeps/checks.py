"""Range checks that constructors share. Each raises `ConfigError` naming the parameter and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any

from lop_sweeps.errors import ConfigError


def number(
    key: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False, below: bool = False
) -> float:
    """A finite number in [low, high]; `above` and `below` exclude the respective end."""
    ends = f"{'>' if above else '>='} {low:g}" if math.isfinite(low) else ""
    ends += " and " if ends and math.isfinite(high) else ""
    ends += f"{'<' if below else '<='} {high:g}" if math.isfinite(high) else ""
    allowed = f"must be a finite number {ends}".rstrip()
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigError(key, value, allowed)
    x = float(value)
    if x < low or x > high or (above and x == low) or (below and x == high):
        raise ConfigError(key, value, allowed)
    return x


def integer(key: str, value: Any, low: int, high: int | None = None) -> int:
    """An integer in [low, high]; 2.0 counts as 2, so that `1` and `1.0` mean the same."""
    allowed = f"must be an integer >= {low}" + (f" and <= {high}" if high is not None else "")
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or value < low or (high is not None and value > high):
        raise ConfigError(key, value, allowed)
    return int(value)


def flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(key, value, "must be true or false")
    return value


def text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(key, value, "must be text (quote a number: '\"2\"')")
    return value


def choice(key: str, value: Any, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ConfigError(key, value, f"must be one of: {', '.join(allowed)}")
    return str(value)


def integers(key: str, value: Any, low: int) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(key, value, f"must be a list of integers >= {low}, such as [100,100,100]")
    return tuple(integer(f"{key}[{i}]", item, low) for i, item in enumerate(value))
