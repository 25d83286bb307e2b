"""One run directory: its configuration, its state and its metrics as columns."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from .errors import AnalysisError

SCHEMA = 1
# A diverged run is cut where one of these stops being a number; what is measured before a task lags behind.
PERFORMANCE = ("accuracy", "squared_error", "test_accuracy", "cross_entropy", "train_cross_entropy", "value_loss")

Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Run:
    """columns: metric → (tasks,), or (tasks, layers) for a list per layer; `task`, `examples` are int64."""

    folder: Path
    config: dict[str, Any]
    state: str
    num_tasks: int | None
    columns: dict[str, Column]

    @property
    def id(self) -> str:
        return str(self.config.get("run", self.folder.name))

    @property
    def tasks(self) -> int:
        return len(self.columns["task"])


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C: 8 times faster
    """PyYAML takes `1e-5` for a string; Hydra, which composed the configuration, for a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read(folder: Path) -> Run:
    """Read `config.yaml`, `status.json` (absent: waiting) and `metrics.jsonl` (absent: no finished task).

    A diverged run keeps only the tasks it finished before: its later rows are no measurement of learning.
    Raises AnalysisError naming the file, and the line of a damaged row.
    """
    config = read_config(folder / "config.yaml")
    status = _read_status(folder / "status.json")
    state = str(status.get("state", "waiting"))
    path = folder / "metrics.jsonl"
    columns = _columns(read_rows(path), path)
    if state == "diverged":
        kept = _tasks_before_divergence(columns, status.get("task"))
        columns = {name: values[:kept] for name, values in columns.items()}
    num_tasks = status.get("num_tasks", config["benchmark"].get("num_tasks"))
    return Run(folder, config, state, None if num_tasks is None else int(num_tasks), columns)


def read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AnalysisError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise AnalysisError(f"{path}: not a configuration")
    if config.get("schema", SCHEMA) != SCHEMA:
        raise AnalysisError(f"{path}: schema {config['schema']}, this version reads schema {SCHEMA}")
    missing = [key for key in ("seed", "benchmark") if config.get(key) is None]
    if missing or not isinstance(config["benchmark"], dict):
        raise AnalysisError(f"{path}: lacks {' and '.join(missing) or 'a benchmark'}")
    return config


def _read_status(path: Path) -> dict[str, Any]:
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: cannot be read: {error}") from error
    return status if isinstance(status, dict) else {}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a damaged last line, being written or cut by a kill, is left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = text.split("\n")
    if not lines[-1].strip():
        lines.pop()
    try:  # one call for all lines is faster; the count betrays a row that two damaged lines make up
        rows = json.loads(f"[{','.join(lines)}]")
        if len(rows) == len(lines) and all(isinstance(row, dict) for row in rows):
            return list(rows)
    except ValueError:
        pass
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
        except ValueError as error:
            if number == len(lines):
                break
            raise AnalysisError(f"{path}, line {number}: damaged row ({error})") from error
        rows.append(row)
    return rows


def _columns(rows: list[dict[str, Any]], path: Path) -> dict[str, Column]:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: column for name in names if (column := _column(name, rows, path)) is not None}
    for name in ("task", "examples"):
        column = columns.get(name, np.arange(len(rows)) if name == "task" else np.full(len(rows), np.nan))
        columns[name] = column if np.isnan(column).any() else column.astype(np.int64)
    back = np.flatnonzero(np.diff(columns["task"]) <= 0)
    if back.size:
        raise AnalysisError(f"{path}, line {back[0] + 2}: tasks are out of order (a task is there twice?)")
    return columns


def _column(name: str, rows: list[dict[str, Any]], path: Path) -> Column | None:
    """(tasks,) or (tasks, layers) floats, absent or null = NaN; None for text and objects."""
    cells = [row.get(name) for row in rows]
    first = next((cell for cell in cells if cell is not None), None)
    if isinstance(first, list):
        cells = [[np.nan] * len(first) if cell is None else cell for cell in cells]
    elif not isinstance(first, int | float):
        return None
    try:
        column = np.array(cells, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AnalysisError(f"{path}: {name!r} changes its shape between tasks") from error
    return column if column.ndim <= 2 else None


def _tasks_before_divergence(columns: dict[str, Column], finished: object) -> int:
    kept = len(columns["task"])
    if isinstance(finished, int):
        kept = int(np.searchsorted(columns["task"], finished))
    for name in PERFORMANCE:
        if name in columns:
            bad = np.flatnonzero(~np.isfinite(columns[name]))
            kept = min([kept, *bad[:1].tolist()])
    return kept
