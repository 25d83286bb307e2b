"""The metrics in the frame of tasks: which are drawn, and the values of one."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import AnalysisError
from ..names.described import described
from ..names.metric import PERFORMANCE, POLICY, POLICY_LAST
from ..names.quantity import is_known
from .frame import is_control, layers, measured_before, metric_names

FloatArray = npt.NDArray[np.float64]

# File name → metrics, of which the first with values is drawn: without known widths no rank in percent.
DIAGNOSTICS: dict[str, tuple[str, ...]] = {
    "weight_magnitude": ("weight_magnitude",),
    "dead_units": ("dead_fraction",),
    "effective_rank": ("effective_rank_fraction", "effective_rank"),
}


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


def performance_metric(tasks: pd.DataFrame) -> str:
    """What the benchmark says (`performance`), else the first known way; AnalysisError if there is none."""
    given = tasks["benchmark.performance"].dropna().unique() if "benchmark.performance" in tasks.columns else ()
    return first_available(tasks, (*map(str, given), *PERFORMANCE))


def first_available(tasks: pd.DataFrame, names: Sequence[str]) -> str:
    for name in names:
        if name in tasks.columns and tasks[name].notna().any():
            return name
    raise AnalysisError(f"no run logged {' or '.join(names)}")


def diagnostics_of(tasks: pd.DataFrame) -> dict[str, str | None]:
    """File name → metric, None where no run has values, of the diagnostics that are shown beside performance.

    In control, those of the paper's figure: the policy's dormant units, the weights into its last hidden layer and the
    rank of what that layer represents. Then, of each diagnostic that is not known here, what its runs say is shown.
    """
    if is_control(tasks):
        wanted: dict[str, tuple[str, ...]] = {
            "weight_magnitude": (f"{POLICY_LAST}weight_magnitude",),
            "dormant_units": (f"{POLICY}rarely_active_fraction",),
            "stable_rank": (f"{POLICY_LAST}srank99",),
        }
    else:
        wanted = DIAGNOSTICS
    found: dict[str, str | None] = {}
    for file, names in wanted.items():
        try:
            found[file] = first_available(tasks, names)
        except AnalysisError:
            found[file] = None
    known = metric_names(tasks)
    for name in known:
        said = described(name)
        if said is not None and said.shown and not is_known(name):
            found[name] = f"{POLICY}{name}" if f"{POLICY}{name}" in known else name
    return found


def begins(tasks: pd.DataFrame, metric: str) -> dict[str, int]:
    """Label → the first task before which a diagnostic was taken of its runs, of labels where that is not the first.

    A run that was extended with other diagnostics has them from then on.
    """
    if not measured_before(tasks, metric):
        return {}
    there = tasks[tasks[metric].notna()]
    first, own = (frame.groupby("label", observed=True)["task"].min() for frame in (tasks, there))
    return {str(label): int(task) for label, task in own[own > first.reindex(own.index)].items()}
