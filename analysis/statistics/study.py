"""A study in one file: a line for each run of a selection, and the leaderboard that follows from such files.

`lop-figures SWEEP --csv` writes `study.csv` where the sweep has a selection; `lop-figures a.csv b.csv --out DIR` makes
the leaderboard from such files alone, so that a table can be checked without the runs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import AnalysisError
from ..names.quantity import quantity
from ..reading.load import Sweep
from ..reading.metric import performance_metric
from .curve_summary import per_run
from .leaderboard import Part, core_seconds
from .recorded import read

COLUMNS = {
    "benchmark": str, "metric": str, "run": str, "method": str, "setting": str, "seed": int, "phase": str, "tasks": int,
    "share": float, "value": float, "state": str, "seconds": float,
}  # fmt: skip
PHASES = ("tuning", "report")


def study(sweep: Sweep, tuning: Sweep | None, folders: Sequence[Path]) -> pd.DataFrame:
    """One line per run of the selections in these folders, those of the choice first.

    Columns: benchmark, metric, run, method, setting (`step_size=0.01`), seed, phase (tuning or report), tasks (that it
    learned), share (of the stream), value (mean over its tasks of the metric, as logged; empty if it diverged), state,
    seconds (about what it took of one core; empty if unknown).
    """
    rows: list[dict[str, Any]] = []
    for folder in folders:
        if (found := read(folder)) is None:
            continue
        settings = {
            run: (method, label)
            for method, of in found["settings"].items()
            for label, runs in of.items()
            for run in runs
        }
        chosen = {
            run: (method, found["methods"][method].get("chosen", ""))
            for method, runs in found["report"].items()
            for run in runs
        }
        for part, of_run, phase in ((tuning, settings, PHASES[0]), (sweep, chosen, PHASES[1])):
            rows += _rows(part, of_run, phase) if part is not None else []
    if not rows:
        raise AnalysisError("no selection here (hydra/sweeper=select), so no study.csv")
    return pd.DataFrame(rows)[list(COLUMNS)]


def _rows(part: Sweep, of_run: Mapping[str, tuple[str, str]], phase: str) -> list[dict[str, Any]]:
    found = []
    for benchmark in part.benchmarks:
        of = part.of(benchmark)
        metric = performance_metric(of.tasks)
        values = per_run(of.tasks, metric).set_index("run")["area"]
        longest = max(1, int(of.runs["tasks"].max()))
        for run in of.runs.to_dict("records"):
            name, tasks = str(run["run"]), int(run["tasks"])
            if name not in of_run:
                continue
            seconds = core_seconds(Path(str(run["folder"])))
            found.append(
                {
                    "benchmark": benchmark,
                    "metric": metric,
                    "run": name,
                    "method": of_run[name][0],
                    "setting": of_run[name][1],
                    "seed": int(run["seed"]),
                    "phase": phase,
                    "tasks": tasks,
                    "share": round(tasks / longest, 4),
                    "value": float(values.get(name, np.nan)),
                    "state": str(run["state"]),
                    "seconds": np.nan if seconds is None else seconds,
                }
            )
    return found


def read_study(path: Path) -> pd.DataFrame:
    """A file that `study` made. Raises AnalysisError if it is none."""
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values={"value": [""], "seconds": [""]})
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: {error}") from error
    lacking = [name for name in COLUMNS if name not in frame.columns]
    if lacking:
        raise AnalysisError(f"{path}: no study, for it has no column {', '.join(lacking)}")
    return frame


def parts_of(frame: pd.DataFrame) -> tuple[list[Part], dict[tuple[str, str], float]]:
    """For `leaderboard.board`: the reported values of each benchmark, and seconds by benchmark and method."""
    reported = frame[frame["phase"] == PHASES[1]]
    parts, seconds = [], {}
    for benchmark, rows in reported.groupby("benchmark", sort=False):
        metrics = rows["metric"].unique()
        if len(metrics) > 1:
            raise AnalysisError(f"{benchmark}: several metrics ({', '.join(map(str, metrics))})")
        part = Part(str(benchmark), str(metrics[0]), 1.0 if quantity(str(metrics[0])).larger_is_better else -1.0)
        for method, of in rows.groupby("method", sort=False):
            diverged = of["state"] == "diverged"
            part.add(str(method), of[~diverged].set_index("seed")["value"].dropna().sort_index(), int(diverged.sum()))
            seconds[str(benchmark), str(method)] = float(of["seconds"].median())
        parts.append(part)
    return parts, seconds
