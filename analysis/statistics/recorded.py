"""How the settings of a sweep were chosen, where `hydra/sweeper=select` has chosen them and written it down."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lop_sweeps.errors import LopError
from lop_sweeps.selection import record

from ..errors import AnalysisError
from ..names.quantity import quantity
from ..names.seeds import ranges
from ..reading.load import Sweep, load
from .band import DEFAULT, Band
from .curve_summary import bounds_of
from .interval import NAMES, WORDS
from .selection import Selection, at_edges


def recorded(sweep: Sweep, folders: Sequence[Path], band: Band = DEFAULT) -> Selection | None:
    """What `select.json` in these folders says of the methods in `sweep`; None if no folder has one.

    The table is that of `Selection`, with two columns more: stability (share of resamples of the tuning seeds that
    choose the same setting) and tuning_tasks (tasks that the choice has learned). Raises AnalysisError if a record
    was changed since it was written.
    """
    rows: list[dict[str, object]] = []
    seeds: list[str] = []
    for folder in folders:
        if (found := read(folder)) is None:
            continue
        tuned = ranges(found["tuning"]["seeds"])
        for method, of_method in found["methods"].items():
            runs = sweep.runs[sweep.runs["run"].isin(found["report"].get(method, []))]
            if len(runs) and of_method["rungs"]:
                seeds.append(tuned)
                rows.append(_row(method, of_method, found, runs, band))
    if not rows:
        return None
    words = f"Of each method the setting that was best on seeds {'; '.join(dict.fromkeys(seeds))}"
    table = pd.DataFrame(rows)
    return Selection(replace(sweep, notes=[*sweep.notes, *at_edges(table)]), table, words)


def tuning_runs(folders: Sequence[Path]) -> Sweep | None:
    """The runs that settings were chosen on; None where they are no longer there."""
    found = [folder / record.TUNING for folder in folders if (folder / record.TUNING).is_dir()]
    try:
        return load(found) if found else None
    except AnalysisError:  # none of them can be read
        return None


def methods_of(sweep: Sweep, folders: Sequence[Path]) -> dict[str, str]:
    """Run -> method: as a selection calls it, else its label."""
    found = dict(zip(map(str, sweep.runs["run"]), map(str, sweep.runs["label"]), strict=True))
    for folder in folders:
        if (said := read(folder)) is not None:
            found |= {run: method for method, names in said["report"].items() for run in names if run in found}
    return found


def read(folder: Path) -> dict[str, Any] | None:
    try:
        return record.read(folder)
    except LopError as error:
        raise AnalysisError(str(error)) from error


def _row(
    method: str, of_method: Mapping[str, Any], found: Mapping[str, Any], runs: pd.DataFrame, band: Band
) -> dict[str, object]:
    metric, summary = str(of_method["metric"]), record.SUMMARIES[found["tuning"]["by"]]
    bounds = bounds_of(summary, quantity(metric))

    def estimate(label: str) -> list[float]:
        """Of the last rung that it was in."""
        values = [rung["values"][label] for rung in of_method["rungs"] if label in rung["values"]]
        numbers = np.array([value for value in values[-1] if value is not None], dtype=np.float64) if values else None
        return [np.nan] * 3 if numbers is None or not len(numbers) else list(map(float, band.of(numbers, bounds)))

    chosen, second = of_method["chosen"], of_method["runner_up"]
    names = ("tuning", "tuning_low", "tuning_high")
    return {
        "benchmark": str(runs["benchmark"].iloc[0]),
        "method": method,
        "metric": metric,
        "label": chosen or str(runs["label"].iloc[0]),
        "tried": len(of_method["rungs"][0]["values"]),
        **dict(zip(names, estimate(chosen), strict=True)),
        "tuning_n": len(found["tuning"]["seeds"]),
        "runner_up": second,
        **dict(zip([f"runner_up_{name}" for name in names], estimate(second), strict=True)),
        "edge": of_method["edge"],
        "tuning_seeds": ranges(found["tuning"]["seeds"]),
        "report_seeds": ranges(runs["seed"]),
        "statistic": NAMES[band.estimator],
        "interval": WORDS[band.interval],
        "stability": of_method["stability"],
        "tuning_tasks": of_method["tuning_tasks"],
    }
