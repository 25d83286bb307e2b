"""From the frame of tasks to curves with intervals, and to early and late performance."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from .bootstrap import bootstrap, bootstrap_mean
from .curve_summary import summarise
from .errors import AnalysisError
from .estimators import Estimator
from .label import ordered
from .metric import by_run, check_metric

__all__ = ["Curve", "bin_tasks", "bootstrap_mean", "check_metric", "curves", "early_late"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One metric of the runs with one label.

    x: (points,) task index or examples seen, at the left edge of what a point averages, as in the paper.
    values: (runs, points), NaN where a run has no such point (it is shorter, or diverged before).
    runs: (runs,) their ids.
    """

    x: FloatArray
    values: FloatArray
    runs: list[str]

    def count(self) -> npt.NDArray[np.int64]:
        """(points,): runs that have the point."""
        return np.asarray(np.sum(~np.isnan(self.values), axis=0), dtype=np.int64)

    def first(self, points: int) -> "Curve":
        """The first `points` points of every run; no run is left out."""
        return Curve(self.x[:points], self.values[:, :points], self.runs)


def bin_tasks(values: npt.ArrayLike, k: int) -> FloatArray:
    """values (..., tasks) → (..., tasks // k): means of k consecutive tasks, without an incomplete last block.

    A block in which a task is missing (NaN) is missing. Source: `bin_m_errs` in the authors' plots.
    """
    array = np.asarray(values, dtype=np.float64)
    if k < 1:
        raise AnalysisError(f"a point must average at least one task, not {k}")
    blocks = array.shape[-1] // k
    binned: FloatArray = array[..., : blocks * k].reshape(*array.shape[:-1], blocks, k).mean(axis=-1)
    return binned


def curves(frame: pd.DataFrame, metric: str, by: str = "label", k: int = 1, x: str = "task") -> dict[str, Curve]:
    """Frame of tasks → value of `by` → Curve, baselines first; k tasks are averaged per point.

    x: 'task' (index of a point's first task), 'examples' (examples seen before it) or 'steps' (the same, in control).
    Values without a number of the metric (say, dead units of a linear network) give no curve. Raises AnalysisError
    for an unknown metric, and if runs drawn together saw different numbers of examples per task but x is not 'task'.
    """
    check_metric(frame, metric)
    if by == "label" and frame["benchmark"].nunique() > 1:  # a label is a configuration within one benchmark only
        names = ", ".join(sorted(map(str, frame["benchmark"].unique())))
        raise AnalysisError(f"several benchmarks ({names}) in one figure; take one: sweep.of(name)")
    found: dict[str, Curve] = {}
    needed = list(dict.fromkeys([by, "run", "task", "examples", metric]))  # groups copy what they hold
    for name, group in frame[needed].groupby(by, observed=True):
        table = by_run(group, metric)
        if np.isnan(table).all():
            continue
        runs = list(map(str, group["run"].unique()))
        edges = np.arange(table.shape[1], dtype=np.float64)
        if x != "task":
            edges = _examples_before(by_run(group, "examples"), str(name))
        values = bin_tasks(table, k)
        found[str(name)] = Curve(edges[: values.shape[1] * k : k], values, runs)
    return {name: found[name] for name in ordered(found)}


def early_late(frame: pd.DataFrame, metric: str, by: str = "label", estimator: Estimator = "mean") -> pd.DataFrame:
    """One row per value of `by`: n, then early, late and change = late − early, each with `_low` and `_high`.

    Early (late) is a run's mean over the first (last) tenth of the tasks of which it has the metric, at least
    one task; then the estimate over runs with its 95 % bootstrap interval. The change is paired: computed within
    each run, then taken over runs, leaving out runs of a single task. n: runs with the metric.
    """
    rows = {}
    for name, curve in curves(frame, metric, by).items():
        summaries = summarise(curve.values)
        row: dict[str, float] = {"n": int(np.sum(~np.isnan(summaries["early"])))}
        for column in ("early", "late", "change"):
            row |= _named(column, bootstrap(summaries[column], estimator))
        rows[name] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["n"] = table["n"].astype(int)
    return table.rename_axis(by)


def _named(name: str, interval: tuple[FloatArray, FloatArray, FloatArray]) -> Mapping[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, interval), strict=True))


def _examples_before(after: FloatArray, name: str) -> FloatArray:
    """after (runs, tasks), cumulative at the end of each task → (tasks,) before each task."""
    seen = np.nanmax(after, axis=0)
    if np.any(np.nanmin(after, axis=0) != seen):
        raise AnalysisError(f"{name!r}: its runs have different numbers of examples per task; draw them over tasks")
    return np.concatenate([[0.0], seen[:-1]])
