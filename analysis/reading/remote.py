"""Runs in Weights & Biases → run directories, as a sweep has them, downloaded once and read like any other.

    wandb://entity/project?group=permuted_mnist_small
    wandb://entity/project?group=a&group=b&tag=cluster       # either group, and the tag

The whole history is read: W&B's `history()` is a sample, another one at each call.
"""

import contextlib
import importlib.util
import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from lop_sweeps.tracking.rows import DESCRIBED, decode

from ..errors import AnalysisError
from .run_folder import first_task

SCHEME = "wandb://"
FILTERS = {"group": "group", "tag": "tags", "name": "display_name", "state": "state", "job_type": "jobType"}
FIGURES = "figures"  # job type of what lop-figures has uploaded
PAGE = 1000
DOWNLOADS = 4  # at a time; W&B answers more with 429
# What W&B says of a run that our log says nothing about, because it is not over.
STATES = {"running": "running", "pending": "waiting", "crashed": "waiting", "killed": "waiting", "preempted": "waiting"}


@dataclass(frozen=True)
class Address:
    """Where runs are: path is entity/project (or project: the account's own), filters as W&B's API takes them."""

    path: str
    filters: dict[str, Any]

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Raises AnalysisError for anything but wandb://entity/project with known filters."""
        parts = urlsplit(url)
        names = [unquote(name) for name in (parts.netloc, *parts.path.split("/")) if name]
        if not 1 <= len(names) <= 2:
            raise AnalysisError(f"{url}: must be {SCHEME}entity/project, perhaps with ?group=NAME")
        given = parse_qs(parts.query, keep_blank_values=True)
        if unknown := [name for name in given if name not in FILTERS]:
            raise AnalysisError(f"{url}: no filter {unknown[0]!r}; there are {', '.join(FILTERS)}")
        if empty := [name for name, values in given.items() if not all(values)]:
            raise AnalysisError(f"{url}: {empty[0]} needs a value: {empty[0]}=NAME")
        filters: dict[str, Any] = {FILTERS[name]: {"$in": values} for name, values in given.items()}
        filters.setdefault("jobType", {"$ne": FIGURES})
        return cls("/".join(names), filters)


def fetch(url: str, cache: Path | None = None) -> tuple[list[Path], list[str]]:
    """Run directories with what the runs at `url` have logged so far, and notes on what is missing there.

    cache: default lop_sweeps/wandb in the user's cache folder. A run whose last row is here is not downloaded again.
    Raises AnalysisError if W&B cannot be reached or has no such runs.
    """
    address = Address.parse(url)
    if importlib.util.find_spec("wandb") is None:
        raise AnalysisError(f"{url}: the package wandb is not installed")
    with contextlib.redirect_stderr(io.StringIO()):  # the client says things that nobody asked
        return _fetch(url, address, cache)


def _fetch(url: str, address: Address, cache: Path | None) -> tuple[list[Path], list[str]]:
    import wandb

    folder = (cache or _cache()) / urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
    try:
        offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")  # then login() refuses, but reading works
        if not offline and not wandb.login(prompt=False):
            raise AnalysisError(f"{url}: not logged in: put WANDB_API_KEY into .env, or run `wandb login`")
        found = list(wandb.Api(timeout=60).runs(address.path, filters=address.filters, per_page=100, lazy=False))
        ours = [run for run in found if {"run", "seed", "benchmark"} <= set(run.config)]
        if not ours:
            others = f" ({len(found)} runs there are not of this project)" if found else ""
            raise AnalysisError(f"{url}: no runs{others}")
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            results = list(pool.map(lambda run: _download(run, folder.joinpath(*run.path)), ours))
    except AnalysisError:
        raise
    except Exception as error:  # requests', wandb's own: of many kinds
        raise AnalysisError(f"{url}: {' '.join(str(error).split()) or type(error).__name__}") from error
    notes = [note for _, note in results if note]
    if strange := len(found) - len(ours):
        notes.append(f"{strange} run{'s' * (strange > 1)} at {url} not of this project, left out")
    return sorted(path for path, _ in results), notes  # as a folder lists them


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lop_sweeps" / "wandb"


def _download(run: Any, folder: Path) -> tuple[Path, str]:
    """The directory of one run, and what is missing in W&B, in words."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in run.config.items() if key not in ("provenance", "_wandb", DESCRIBED)}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=True, allow_unicode=True), encoding="utf-8")
    origin = {**(run.config.get("provenance") or {}), "url": run.url}
    (folder / "provenance.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    values = {"run": config["run"], "values": run.config.get(DESCRIBED) or {}}
    (folder / "diagnostics.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    logged = dict(run.summary)
    state = STATES.get(run.state) or logged.get("state") or ("failed" if run.state == "failed" else "waiting")
    status = {"state": state, "num_tasks": config.get("num_tasks")}
    (folder / "status.json").write_text(json.dumps(status) + "\n", encoding="utf-8")
    marker = folder / "downloaded.json"
    if _read(marker).get("step", "unknown") != logged.get("_step") or not (folder / "metrics.jsonl").is_file():
        rows = rows_of(run.scan_history(page_size=PAGE))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
        tasks = rows[-1]["task"] + 1 - first_task(config) if rows else 0
        seen = {"step": logged.get("_step"), "rows": len(rows), "tasks": tasks}
        marker.write_text(json.dumps(seen) + "\n", encoding="utf-8")
    known, wanted = _read(marker), int(config.get("num_tasks") or 0) - first_task(config)
    missing = max(known["tasks"], wanted if state == "done" else 0) - known["rows"]
    return folder, f"{run.name}: {missing} rows are missing in W&B; lop-status --sync sends them" if missing else ""


def rows_of(history: Sequence[Mapping[str, Any]] | Any) -> list[dict[str, Any]]:
    """The rows of a log from W&B's history, each task once (`wandb sync` of two files can double some), in order."""
    rows: dict[int, dict[str, Any]] = {}
    for sent in history:
        row = decode(sent)
        if "task" in row:
            row["task"] = int(row["task"])
            rows[row["task"]] = dict(sorted(row.items(), key=lambda item: (item[0] not in ("task", "examples"), item)))
    return [rows[task] for task in sorted(rows)]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
