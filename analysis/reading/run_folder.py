"""One run directory: its configuration, its state and its metrics as columns."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lop_sweeps import yaml_file
from lop_sweeps.errors import IdentityError
from lop_sweeps.regular_file import read_bytes
from lop_sweeps.sweeps.identity import disagreement
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.notes import Notes

from ..errors import AnalysisError
from ..names.described import Described, parse
from ..names.metric import PERFORMANCE
from ..names.quantity import is_known
from .columns import Column, read_columns

SCHEMA = 1
# The lines of a configuration in which its runs differ.
IDENTITY = re.compile(r"^(?:run: \w[\w.+-]*|seed: \d+)$", re.ASCII | re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """columns: metric → (tasks,), or (tasks, layers) for a list per layer; `task`, `examples` are int64.

    unrecorded: what could not be checked. described: what the run says of metrics that are not known here.
    """

    folder: Path
    config: dict[str, Any]
    state: str
    num_tasks: int | None
    columns: dict[str, Column]
    unrecorded: tuple[str, ...] = ()
    described: Mapping[str, Described] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.config.get("run", self.folder.name))

    @property
    def tasks(self) -> int:
        """Rows of its log: a run that goes on from another's network has none of that one's tasks."""
        return len(self.columns["task"])

    @property
    def first_task(self) -> int:
        return first_task(self.config)


def read(folder: Path, configurations: "Configurations", notes: Notes | None = None) -> Run:
    """Read `config.yaml`, `status.json` (absent: waiting) and `metrics.jsonl` (absent: no finished task).

    A diverged run keeps only the tasks it finished before: its later rows are no measurement of learning.
    notes: with them, the folder is asked whether it is itself (`integrity`). Raises AnalysisError naming the file, and
    the line of a damaged row.
    """
    unrecorded: tuple[str, ...] = ()
    recorded = None
    if notes is not None:
        verdict = look(folder, notes)
        if problem := verdict.of_results:
            raise AnalysisError(f"{folder}/{problem}")
        unrecorded, recorded = verdict.unrecorded, verdict.identity
    config = configurations.read(folder / "config.yaml")
    try:
        problem = disagreement(config, recorded) if recorded else ""
    except IdentityError as error:
        problem = str(error)
    if problem:
        raise AnalysisError(f"{folder}/config.yaml: {problem}")
    status = _read_status(folder / "status.json")
    state = str(status.get("state", "waiting"))
    columns = read_columns(folder / "metrics.jsonl")
    if state == "diverged":
        kept = _tasks_before_divergence(columns, status.get("task"))
        columns = {name: values[:kept] for name, values in columns.items()}
    num_tasks = status.get("num_tasks", config["benchmark"].get("num_tasks"))
    count = None if num_tasks is None else int(num_tasks)
    return Run(folder, config, state, count, columns, unrecorded, _described(folder, columns))


def first_task(config: Mapping[str, Any]) -> int:
    """Not 0 for a run that goes on from another run's network."""
    parent = config.get("parent")
    task = parent.get("task") if isinstance(parent, Mapping) else None
    return task if isinstance(task, int) else 0


class Configurations:
    """Reads `config.yaml` files; the seeds of one configuration share what was parsed once, so leave it as it is."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    def read(self, path: Path) -> dict[str, Any]:
        """Raises AnalysisError naming the file."""
        try:
            config = self._parse(yaml_file.read_text(path))
        except yaml_file.YamlError as error:
            text = str(error)
            raise AnalysisError(text if str(path) in text else f"{path}: {text}") from error
        if not isinstance(config, dict):
            raise AnalysisError(f"{path}: not a configuration")
        if config.get("schema", SCHEMA) != SCHEMA:
            raise AnalysisError(f"{path}: schema {config['schema']}, this version reads schema {SCHEMA}")
        missing = [key for key in ("seed", "benchmark") if config.get(key) is None]
        if missing or not isinstance(config["benchmark"], dict):
            raise AnalysisError(f"{path}: lacks {' and '.join(missing) or 'a benchmark'}")
        return config

    def _parse(self, text: str) -> Any:
        found = IDENTITY.findall(text)
        if len(found) != 2:
            return yaml_file.parse(text)
        identity = yaml_file.parse("\n".join(found))
        shared = IDENTITY.sub("", text)
        if shared not in self._known:
            config = yaml_file.parse(text)
            if not isinstance(config, dict) or any(config.get(key) != value for key, value in identity.items()):
                return config  # what looks like the run's identity is part of a longer text
            self._known[shared] = config
        return self._known[shared] | identity


def _described(folder: Path, columns: Mapping[str, Column]) -> dict[str, Described]:
    """What the run says of its values, where there is one that needs it; nothing without a sound file."""
    if all(is_known(name) for name in columns if name not in ("task", "examples")):
        return {}
    try:
        content = json.loads(read_bytes(folder / "diagnostics.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    return parse(content.get("values")) if isinstance(content, dict) else {}


def _read_status(path: Path) -> dict[str, Any]:
    try:
        status = json.loads(read_bytes(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: cannot be read: {error}") from error
    return status if isinstance(status, dict) else {}


def _tasks_before_divergence(columns: dict[str, Column], finished: object) -> int:
    kept = len(columns["task"])
    if isinstance(finished, int):
        kept = int(np.searchsorted(columns["task"], finished))
    for name in PERFORMANCE:  # what is measured before a task lags behind
        if name in columns:
            bad = np.flatnonzero(~np.isfinite(columns[name]))
            kept = min([kept, *bad[:1].tolist()])
    return kept
