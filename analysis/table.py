"""The summary table: early and late performance of each method, and by how much it changed."""

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from . import text_table
from .aggregate import early_late
from .band import DEFAULT, NAMES, Band
from .bootstrap import FEW_RUNS, TOO_NARROW
from .errors import AnalysisError
from .label import ordered
from .load import FINAL, Sweep
from .quantity import performance_metric, quantity

HEADINGS = ("method", "runs", "early", "late", "late − early")
NOTE = (
    "early, late: mean over the first and last tenth of a run's tasks, then {estimator}over runs, "
    "with 95% bootstrap intervals over runs; late − early is paired within runs"
)


def summary(sweep: Sweep, band: Band = DEFAULT) -> pd.DataFrame:
    """One row per benchmark and label, in the drawn unit (accuracy in percent).

    n: runs with data; diverged: how many did; partial: how many have data, but neither finished nor diverged.
    band: only its estimator matters, as all intervals are bootstrap intervals. One that is not the mean is named in a
    column of its own, `estimator`.
    """
    tables = []
    for name in sweep.benchmarks:
        part = sweep.of(name)
        metric = performance_metric(part.tasks)
        unit = quantity(metric)
        values = early_late(part.tasks, metric, estimator=band.estimator)
        numbers = [column for column in values.columns if column != "n"]
        values[numbers] *= unit.scale
        labels = ordered(part.runs["label"])
        table = values.reindex(labels)
        table["n"] = table["n"].fillna(0).astype(int)
        runs, started = part.runs, part.runs["tasks"] > 0
        chosen = {"diverged": runs["state"] == "diverged", "partial": started & ~runs["state"].isin(FINAL)}
        for column, which in chosen.items():
            table[column] = which.groupby(runs["label"]).sum().reindex(labels).astype(int)
        if band.estimator != "mean":
            table.insert(0, "estimator", NAMES[band.estimator])
        table.insert(0, "metric", f"{metric} ({unit.unit})" if unit.unit else metric)
        table.insert(0, "benchmark", name)
        tables.append(table.rename_axis("method").reset_index())
    if not tables:
        raise AnalysisError("no finished task to summarise")
    table = pd.concat(tables, ignore_index=True)
    first = ["benchmark", "method", "metric", "n", "diverged", "partial"]
    return table[[*first, *(c for c in table.columns if c not in first)]]


def text(table: pd.DataFrame) -> str:
    """For a terminal: aligned columns, one block per benchmark."""
    blocks = [f"{title}\n{text_table.aligned(cells)}" for title, cells in _blocks(table)]
    return "\n\n".join([*blocks, note(table)])


def markdown(table: pd.DataFrame) -> str:
    blocks = []
    for title, cells in _blocks(table):
        benchmark, _, metric = title.partition(": ")
        blocks.append(f"**{benchmark}**: {metric}\n\n{text_table.markdown(cells)}")
    words = note(table)
    return "\n\n".join([*blocks, f"{words[0].upper()}{words[1:]}."]) + "\n"


def note(table: pd.DataFrame) -> str:
    """How its numbers were made, and what they do not show."""
    sentences = [NOTE.format(estimator=f"the {table['estimator'].iloc[0]} " if "estimator" in table.columns else "")]
    sentences += ["Diverged runs count early only"] if table["diverged"].any() else []
    sentences += ["Runs that are not finished count with the tasks that they have"] if table["partial"].any() else []
    sentences += [TOO_NARROW] if table["n"].between(2, FEW_RUNS - 1).any() else []
    return ". ".join(sentences)


def write(table: pd.DataFrame, folder: Path) -> list[Path]:
    """`table.csv` (numbers in full) and `table.md` in an existing folder."""
    paths = [folder / "table.csv", folder / "table.md"]
    table.to_csv(paths[0], index=False)
    paths[1].write_text(markdown(table), encoding="utf-8")
    return paths


def _blocks(table: pd.DataFrame) -> Iterable[tuple[str, text_table.Cells]]:
    for (benchmark, metric), rows in table.groupby(["benchmark", "metric"], sort=False):
        yield f"{benchmark}: {metric}", [list(HEADINGS), *(_cells(row) for row in rows.to_dict("records"))]


def _cells(row: Mapping[Hashable, Any]) -> list[str]:
    def interval(name: str) -> str:
        estimate, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
        return text_table.interval(estimate, low, high, str(row["metric"]))

    extra = [f"{row[name]} {name}" for name in ("diverged", "partial") if row[name]]
    return [str(row["method"]), ", ".join([str(row["n"]), *extra]), *map(interval, ("early", "late", "change"))]
