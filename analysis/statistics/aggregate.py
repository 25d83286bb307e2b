"""From the frame of tasks to curves with intervals, and to early and late performance."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import AnalysisError
from ..names.label import ordered
from ..names.quantity import quantity
from ..reading.frame import measured_before
from ..reading.metric import by_run, check_metric
from .band import DEFAULT, Band
from .curve_summary import bounds_of, summarise, without_diverged

__all__ = ["Curve", "bin_tasks", "check_metric", "curves", "early_late", "edges"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One metric of the runs with one label.

    x: (points,) task index, examples or environment steps; see `curves`.
    values: (runs, points), NaN where a run has no such point (it is shorter, or diverged before).
    runs: (runs,) their ids. started: how many of them have a value, if none has all that a point averages.
    infinite: values that were infinite, and are left out.
    """

    x: FloatArray
    values: FloatArray
    runs: list[str]
    started: int = 0
    infinite: int = 0

    def count(self) -> npt.NDArray[np.int64]:
        """(points,): runs that have the point."""
        return np.asarray(np.sum(~np.isnan(self.values), axis=0), dtype=np.int64)

    def first(self, points: int) -> "Curve":
        """The first `points` points of every run; no run is left out."""
        return replace(self, x=self.x[:points], values=self.values[:, :points])


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


def _bin_measured(table: FloatArray, k: int) -> FloatArray:
    """`bin_tasks` of (runs, tasks) over those tasks of each block that some run has."""
    some = ~np.isnan(table).all(axis=0)
    filled = np.where(some, table, 0.0)
    with np.errstate(invalid="ignore"):  # a block without any
        binned: FloatArray = bin_tasks(filled, k) / bin_tasks(some.astype(np.float64), k)
    return binned


def curves(frame: pd.DataFrame, metric: str, by: str = "label", k: int = 1, x: str = "task") -> dict[str, Curve]:
    """Frame of tasks → value of `by` → Curve, baselines first; k tasks are averaged per point.

    x: 'task' (index of a point's first task) or 'examples' (seen before it), the left edge of what a point averages, as
    in the paper; or in control 'steps', environment steps: returns and whatever else happened during a point's rows of
    the log stand at their right edge, again as in the paper, and diagnostics, which are measured before, at their left
    one. Where no run has a row, the examples at its end are interpolated.

    Values without a number of the metric (say, dead units of a linear network) give no curve. Tasks of which no run of
    a curve has a metric that is measured before tasks are no points: it is not measured before each. Infinite values
    are missing; the curve counts them. Raises AnalysisError for an unknown metric, if no run has k tasks, and if runs
    drawn together saw different numbers of examples per task but x is not 'task'.
    """
    check_metric(frame, metric)
    if by == "label" and frame["benchmark"].nunique() > 1:  # a label is a configuration within one benchmark only
        names = ", ".join(sorted(map(str, frame["benchmark"].unique())))
        raise AnalysisError(f"several benchmarks ({names}) in one figure; take one: sweep.of(name)")
    found: dict[str, Curve] = {}
    before = measured_before(frame, metric)
    longest, after = 0, x == "steps" and not before
    needed = list(dict.fromkeys([by, "run", "task", "examples", metric]))  # groups copy what they hold
    for name, group in frame[needed].groupby(by, observed=True):
        table = by_run(group, metric)
        infinite = np.isinf(table)
        table[infinite] = np.nan
        if np.isnan(table).all() and not infinite.any():
            continue
        runs = list(map(str, group["run"].unique()))
        tasks = np.arange(table.shape[1] + 1, dtype=np.float64)
        at = tasks if x == "task" else _examples(by_run(group, "examples"), str(name))
        values = _bin_measured(table, k) if before else bin_tasks(table, k)
        points = k * np.arange(values.shape[1]) + (k if after else 0)
        if before:
            there = ~np.isnan(values).all(axis=0)
            values, points = values[:, there], points[there]
        started = int(np.sum(~np.isnan(table).all(axis=1)))
        found[str(name)] = Curve(at[points], values, runs, started, int(infinite.sum()))
        longest = max(longest, table.shape[1])
    if found and longest < k:
        raise AnalysisError(f"a point averages {k} tasks, and the longest run has {longest}")
    return {name: found[name] for name in ordered(found)}


def early_late(frame: pd.DataFrame, metric: str, by: str = "label", band: Band = DEFAULT) -> pd.DataFrame:
    """One row per value of `by`: n, n_early, then early, late and change = late − early, each with `_low` and `_high`.

    Early (late) is a run's mean over the first (last) tenth of the tasks of which it has the metric, at least
    one task; then the estimate over runs with its interval. The change is paired: computed within each run, then taken
    over runs, leaving out runs of a single task. A run that diverged has no late performance.
    n: runs with late performance; n_early: with early one.
    """
    unit = quantity(metric)
    rows = {}
    diverged = frame.loc[frame["state"] == "diverged", "run"].astype(str).unique()
    for name, curve in curves(frame, metric, by).items():
        summaries = without_diverged(summarise(curve.values), np.isin(curve.runs, diverged))
        row: dict[str, float] = {
            name: int(np.sum(~np.isnan(summaries[of]))) for name, of in (("n", "late"), ("n_early", "early"))
        }
        for column in ("early", "late", "change"):
            row |= _named(column, band.of(summaries[column], bounds_of(column, unit)))
        rows[name] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table[["n", "n_early"]] = table[["n", "n_early"]].astype(int)
    return table.rename_axis(by)


def _named(name: str, interval: tuple[FloatArray, FloatArray, FloatArray]) -> Mapping[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, interval), strict=True))


def edges(ends: FloatArray) -> FloatArray:
    """ends (tasks,): examples at the end of each task, NaN where nobody knows → (tasks + 1,), from 0, gaps filled.

    Raises AnalysisError if none is known.
    """
    known = np.flatnonzero(~np.isnan(ends))
    if not known.size:
        raise AnalysisError("no row of the log has its number of examples")
    filled: FloatArray = np.interp(
        np.arange(len(ends) + 1), np.concatenate([[0], known + 1]), np.concatenate([[0.0], ends[known]])
    )
    return filled


def _examples(after: FloatArray, name: str) -> FloatArray:
    """after (runs, tasks), cumulative at the end of each task → (tasks + 1,)."""
    most, least = (f.reduce(after, axis=0) for f in (np.fmax, np.fmin))  # of those that are not NaN
    if np.any(most > least):
        raise AnalysisError(f"{name!r}: its runs have different numbers of examples per task; draw them over tasks")
    return edges(most)
