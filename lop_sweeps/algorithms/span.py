"""In which tasks a method acts: `from_task` and `until_task`, which may stand in any node of `algorithm`.

They are no options of the method. Its class is built without them, so a user's own method has them as well. Outside of
its tasks it is not called, and what it keeps begins with the first of them (`PackedIntervention.begin`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError

KEYS = ("from_task", "until_task")


@dataclass(frozen=True)
class Span:
    """Tasks from_task, from_task + 1, ..., until_task - 1; None: to the end. In control a task is a row of the log."""

    from_task: int = 0
    until_task: int | None = None

    def __contains__(self, task: int | None) -> bool:
        """None: no task is learned, or it is not known which."""
        return task is None or (self.from_task <= task and (self.until_task is None or task < self.until_task))


ALWAYS = Span()


def taken_out(node: Mapping[str, Any], known: Collection[str]) -> tuple[dict[str, Any], dict[str, int]]:
    """A node of `algorithm` without its span, and what that says beyond "always".

    known: options of the node's class; one that has such an option itself keeps it.
    """
    given = {key: node[key] for key in KEYS if key in node and key not in known}
    rest = {key: value for key, value in node.items() if key not in given}
    return rest, {key: value for key, value in given.items() if value is not None and (key, value) != ("from_task", 0)}


def make_span(given: Mapping[str, Any]) -> Span:
    """Raises `ConfigError`."""
    first = checks.integer("from_task", given.get("from_task", 0), 0)
    until = given.get("until_task")
    if until is None:
        return Span(first)
    until = checks.integer("until_task", until, 1)
    if until <= first:
        raise ConfigError(
            "until_task", until, f"must be > from_task ({first}): the first task in which it does not act"
        )
    return Span(first, until)
