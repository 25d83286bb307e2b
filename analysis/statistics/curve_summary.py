"""One number per run instead of a curve."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..names.label import COMPONENTS
from ..names.quantity import Bounds, Quantity
from ..reading.metric import by_run, check_metric
from .interval import UNBOUNDED

FloatArray = npt.NDArray[np.float64]

# Name → what it is, in words that go on with "of accuracy".
SUMMARIES: Mapping[str, str] = {
    "early": "mean over the first tenth of the tasks",
    "late": "mean over the last tenth of the tasks",
    "change": "difference between the last and the first tenth of the tasks",
    "area": "mean over all tasks",
    "slope": "change per task, by least squares",
    "final": "value on the last task",
}
# Not of a run that diverged: its last tasks are its first ones, and it would win for having stopped there.
OF_WHOLE_RUNS = ("late", "change", "area", "slope", "final")
IDENTITY = ("run", "benchmark", "label", "seed", "state")


def summarise(values: npt.ArrayLike) -> dict[str, FloatArray]:
    """values (runs, tasks) → name in SUMMARIES → (runs,), over the tasks of which a run has a finite value.

    early, late: mean over the run's first and last tenth of tasks (rounded down), at least one. change: late − early.
    area: mean over all its tasks, the area under its curve over its length. slope: of the least-squares line through
    (task index, value), per task; change and slope are NaN for a run of one task. final: of its last task. A run
    without a task is NaN in all.

    A run that goes on is summarised over the tasks that it has: compare runs of one length (`compared.comparable`).
    """
    table = np.asarray(values, dtype=np.float64)
    table = np.where(np.isfinite(table), table, np.nan)
    found = {name: np.full(len(table), np.nan) for name in SUMMARIES}
    for index, run in enumerate(table):
        tasks = np.flatnonzero(~np.isnan(run))
        seen = run[tasks]
        if not seen.size:
            continue
        window = max(1, len(seen) // 10)
        found["early"][index], found["late"][index] = seen[:window].mean(), seen[-window:].mean()
        found["area"][index], found["final"][index] = seen.mean(), seen[-1]
        if seen.size > 1:
            found["change"][index] = found["late"][index] - found["early"][index]
            centred = tasks - tasks.mean()
            found["slope"][index] = centred @ (seen - seen.mean()) / (centred @ centred)
    return found


def without_diverged(found: dict[str, FloatArray], diverged: npt.NDArray[np.bool_]) -> dict[str, FloatArray]:
    """Summaries (runs,) with NaN for what a run that diverged (runs,) does not have: all but `early`."""
    return {name: np.where(diverged, np.nan, of) if name in OF_WHOLE_RUNS else of for name, of in found.items()}


def bounds_of(summary: str, unit: Quantity, difference: bool = False) -> Bounds:
    """What a run's summary can be, or the difference of two runs', in the unit that was logged."""
    if summary == "slope":
        return UNBOUNDED
    low, high = (unit.of_difference() if summary == "change" else unit).bounds
    return (low - high, high - low) if difference else (low, high)


def per_run(tasks: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per run of the frame of tasks: what identifies it, its hyper-parameters, and one column per summary.

    Columns: run, benchmark, label, seed, state, the hyper-parameters (`optimizer.step_size`), n_tasks (tasks of which
    the run has the metric), and those of `summarise`, in the unit that was logged; of a run that diverged only `early`.
    Raises AnalysisError for an unknown metric.
    """
    check_metric(tasks, metric)
    first = tasks.drop_duplicates("run")
    parameters = [name for name in tasks.columns if str(name).startswith(tuple(f"{part}." for part in COMPONENTS))]
    columns = {name: np.asarray(first[name]) for name in (*IDENTITY, *parameters)}  # without the categories
    values = by_run(tasks, metric)
    found = without_diverged(summarise(values), np.asarray(columns["state"] == "diverged"))
    return pd.DataFrame({**columns, "n_tasks": np.sum(np.isfinite(values), axis=1), **found})
