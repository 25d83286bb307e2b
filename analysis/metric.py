"""The values of one metric in the frame of tasks."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from .errors import AnalysisError
from .frame import layers, metric_names

FloatArray = npt.NDArray[np.float64]


def check_metric(frame: pd.DataFrame, metric: str) -> None:
    """Raises AnalysisError listing what there is if the frame has no value of `metric`."""
    known = metric_names(frame)
    if metric not in known and metric not in [layer for name in known for layer in layers(frame, name)]:
        raise AnalysisError(f"no metric {metric!r}; available: {', '.join(known)}")


def by_run(frame: pd.DataFrame, metric: str) -> FloatArray:
    """(runs, tasks), rows in the order in which the runs appear, columns by task index; NaN where there is none."""
    rows, runs = pd.factorize(frame["run"])
    task = frame["task"].to_numpy()
    table = np.full((len(runs), int(task.max()) + 1), np.nan)
    table[rows, task] = frame[metric].to_numpy(dtype=np.float64)
    return table
