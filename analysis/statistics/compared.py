"""Which runs and tasks count: one rule for every table, for comparisons and for sensitivity.

Methods are compared over the tasks that all of them have come to, and of each method by the runs that have these
tasks: one that failed or is still running before is left out, and counted. Where some go on from another run's
network, the others are compared from that task on. A run that diverged has early performance only. What is no finite
number in the log (null, NaN, an infinite value) is missing, as if the row lacked it: a run counts by the tasks of which
it has a finite value.
"""

import numpy as np
import pandas as pd


def comparable(tasks: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, list[str]]:
    """The frame of tasks as far as every label has a run, without runs that are not there yet; sentences about it.

    A method of which five tasks are done is compared with the first five of the others; one that begins at task 100,
    with what the others did from task 100 on. Runs that diverged stay.
    How far a run has come is a matter of its rows, whether or not they have the metric. Frames of one benchmark.
    """
    finite = np.isfinite(tasks[metric].to_numpy(dtype=np.float64))
    known = tasks[tasks["run"].isin(tasks["run"][finite].unique())]
    runs = known.groupby("run", observed=True).agg(
        label=("label", "first"), state=("state", "first"), first=("task", "min"), last=("task", "max")
    )
    going = runs[runs["state"] != "diverged"]
    if going.empty:
        return tasks, []
    by_label = going.groupby("label", observed=True)
    reached = by_label["last"].max()
    first, last = by_label["first"].min().max(), reached.min()
    first = 0 if first > last else first  # no task is common to all
    short = going.index[going["last"] < last]
    notes = []
    if first:
        notes.append(f"Tasks {first} to {last}, which every method has")
    elif reached.nunique() > 1:
        notes.append(f"The first {last + 1} tasks, as far as every method has come")
    notes += [f"Left out: {len(short)} run{'s' * (len(short) > 1)} with fewer tasks"] if len(short) else []
    return tasks[tasks["task"].between(first, last) & ~tasks["run"].isin(short)] if notes else tasks, notes


def missing(tasks: pd.DataFrame, metric: str) -> list[str]:
    """A sentence on rows without a finite value of `metric`, of runs that have it in others; none if there is none."""
    absent = ~np.isfinite(tasks[metric].to_numpy(dtype=np.float64))
    runs = tasks["run"].isin(tasks["run"][~absent].unique()).to_numpy()
    rows = tasks[absent & runs]
    if rows.empty:
        return []
    names = list(map(str, rows["run"].unique()))
    where = f"1 run ({names[0]})" if len(names) == 1 else f"{len(names)} runs ({names[0]}, …)"
    count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
    return [f"{metric} is no finite number in {count} of {where}, which figures and tables leave out"]
