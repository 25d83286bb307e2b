"""Numbers for other programs: one row per run and quantity with its summaries, and the curves of the figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..names.naming import Naming
from ..names.quantity import quantity
from ..names.seeds import ranges
from ..reading.load import Sweep
from ..reading.metric import performance_metric
from ..statistics.aggregate import curves
from ..statistics.band import DEFAULT, Band
from ..statistics.compared import comparable
from ..statistics.curve_summary import SUMMARIES, per_run
from ..statistics.interval import NAMES, WORDS
from .files import write_csv


def runs_table(sweep: Sweep, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """One row per run and metric, in the drawn unit: what the tables and the comparison are made of.

    metrics: default each benchmark's performance. Columns: benchmark, metric, unit, run, label, seed, state, n_tasks,
    counted (whether it is in the tables: a run with fewer tasks than are compared is not), one for each of
    `SUMMARIES`, over the tasks that are compared, and the hyper-parameters.
    """
    tables = []
    for name in sweep.benchmarks:
        part = sweep.of(name)
        for metric in metrics or [performance_metric(part.tasks)]:
            if metric not in part.tasks.columns or not np.isfinite(part.tasks[metric].to_numpy(dtype=np.float64)).any():
                continue
            compared, _ = comparable(part.tasks, metric)
            same = part.tasks["task"].between(compared["task"].min(), compared["task"].max())
            found = per_run(part.tasks[same], metric)
            unit = quantity(metric)
            found[list(SUMMARIES)] *= unit.scale
            counted = found["run"].isin(compared["run"].unique()) & (found["n_tasks"] > 0)
            found = found.assign(metric=metric, unit=unit.unit, counted=counted)
            tables.append(found)
    table = pd.concat(tables, ignore_index=True)
    first = ["benchmark", "metric", "unit", "run", "label", "seed", "state", "n_tasks", "counted", *SUMMARIES]
    return table[[*first, *(column for column in table.columns if column not in first)]]


def curves_table(
    sweep: Sweep, metrics: Sequence[str], k: int = 1, band: Band = DEFAULT, naming: Naming | None = None
) -> pd.DataFrame:
    """One row per benchmark, metric, label and point, in the drawn unit: n runs, estimate, low, high.

    task: index of the first of the k tasks that a point averages; in control, rows of the log.
    """
    tables = []
    for name in sweep.benchmarks:
        part = sweep.of(name)
        for metric in metrics:
            if metric not in part.tasks.columns or not np.isfinite(part.tasks[metric].to_numpy(dtype=np.float64)).any():
                continue
            unit, found = quantity(metric), curves(part.tasks, metric, k=min(k, int(part.tasks["task"].max()) + 1))
            for label in (naming or Naming()).ordered(found):
                estimate, low, high = (unit.scale * end for end in band.of(found[label].values, unit.bounds))
                columns: dict[str, object] = {"benchmark": name, "metric": metric, "unit": unit.unit, "label": label}
                seeds = ranges(part.runs.loc[part.runs["run"].isin(found[label].runs), "seed"])
                columns |= {"seeds": seeds, "task": found[label].x.astype(np.int64), "n": found[label].count()}
                tables.append(pd.DataFrame({**columns, "estimate": estimate, "low": low, "high": high}))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(statistic=NAMES[band.estimator], interval=WORDS[band.interval])


def write(
    sweep: Sweep, folder: Path, metrics: Sequence[str], k: int, band: Band, naming: Naming | None = None
) -> list[Path]:
    """`runs.csv` and `curves.csv` in an existing folder. metrics: of both. Raises OSError."""
    return [
        write_csv(folder / "runs.csv", runs_table(sweep, metrics)),
        write_csv(folder / "curves.csv", curves_table(sweep, metrics, k, band, naming)),
    ]
