"""What is measured of a run, recorded in its folder: for whoever reads the log, and for the plan of another sweep.

`diagnostics.json` holds, of all diagnostics that were ever taken of the run, class, version and options with the task
from which on they were, and what each value in the log is: per layer, per weight matrix or one for the network; title,
unit, scale and meaning. The choice of diagnostics is no part of a run's identity, since they change nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lop_sweeps.diagnostics.diagnostic import Diagnostic
from lop_sweeps.durable import write_atomically
from lop_sweeps.errors import ConfigError
from lop_sweeps.sweeps.diagnostics_file import FILE, read
from lop_sweeps.sweeps.identity import canonical
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.training.components import STANDARD

NOT_SWEPT = (
    "is not swept over, since a run is the same whatever is measured of it: choose one set of diagnostics, or give "
    "each set a sweep of its own (sweep=NAME), which trains the runs again"
)


def of(config: Mapping[str, Any], trusted: Sequence[str] = ()) -> dict[str, Any]:
    """Class, version and options of each diagnostic of a configuration, by its key."""
    nodes = config.get("diagnostics")
    nodes = STANDARD if nodes is None else nodes
    return {key: canonical(node, f"diagnostics.{key}", trusted, frozenset()) for key, node in nodes.items()}


def record(
    run: RunDirectory, measures: Mapping[str, Any], diagnostics: Sequence[tuple[str, Diagnostic]], task: int
) -> None:
    """Add what is measured from `task` on to what was."""
    known = read(run)
    taken, values = dict(known.get("diagnostics") or {}), dict(known.get("values") or {})
    for key, diagnostic in diagnostics:
        earlier = {name: value for name, value in taken.get(key, {}).items() if name != "since"}
        if earlier != measures[key]:
            taken[key] = {**measures[key], "since": task}
        for i, value in enumerate(diagnostic.values):
            described = {name: told for name, told in asdict(value).items() if name != "name"}
            values[value.name] = {**described, "diagnostic": key, "standard": key in STANDARD, "shown": i == 0}
    content = {"run": run.name, "diagnostics": taken, "values": values}
    if content != known:
        write_atomically(run.path / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def lacking(run: RunDirectory, measures: Mapping[str, Any]) -> list[str]:
    """Which of these diagnostics were never taken of a run; older ones have the standard set and no record of it."""
    known = read(run).get("diagnostics")
    taken: dict[str, Any] = of({}) if known is None else known
    return [
        key
        for key, one in measures.items()
        if {name: value for name, value in taken.get(key, {}).items() if name != "since"} != one
    ]


def check_one_set(sets: Mapping[Any, Any], key: Any, measures: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if there is another set of diagnostics for the same run."""
    if sets.get(key, measures) != measures:
        raise ConfigError("diagnostics", None, NOT_SWEPT)
