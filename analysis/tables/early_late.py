"""The summary table: early and late performance of each method, and by how much it changed."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import AnalysisError
from ..names.naming import Naming
from ..names.quantity import quantity
from ..names.seeds import ranges, seeds_of
from ..reading.load import Sweep
from ..reading.metric import performance_metric
from ..statistics.aggregate import early_late
from ..statistics.band import DEFAULT, Band
from ..statistics.compared import comparable
from ..statistics.interval import NAMES, WORDS
from . import latex, text_table
from .files import with_notes, write_table

HEADINGS = ("method", "runs", "early", "late", "late − early")
NOTE = (
    "early, late: mean over the first and last tenth of a run's tasks, then {estimator}over runs; intervals: "
    "{interval}; late − early is paired within runs; runs: those with late performance"
)


def summary(sweep: Sweep, band: Band = DEFAULT, naming: Naming | None = None) -> pd.DataFrame:
    """One row per benchmark and label, in the drawn unit (accuracy in percent).

    Over the tasks that all methods have (`comparable`). seeds: of the runs that count (text). n, n_early: runs with
    late, with early performance. diverged: how many did. left_out: how many have fewer tasks than are compared.
    statistic, interval: those of `band`. notes: sentences on the benchmark's runs. naming: for the order.
    """
    tables = []
    for name in sweep.benchmarks:
        part = sweep.of(name)
        metric = performance_metric(part.tasks)
        unit = quantity(metric)
        tasks, notes = comparable(part.tasks, metric)
        values = early_late(tasks, metric, band=band)
        numbers = [column for column in values.columns if column not in ("n", "n_early")]
        values[numbers] *= unit.scale
        labels = (naming or Naming()).ordered(map(str, part.runs["label"]))
        table = values.reindex(labels)
        for column in ("n", "n_early"):
            table[column] = table[column].fillna(0).astype(int)
        runs = part.runs
        counted = runs["run"].isin(tasks["run"].unique()) | (runs["state"] == "diverged")
        chosen = {"diverged": runs["state"] == "diverged", "left_out": ~counted & (runs["tasks"] > 0)}
        for column, which in chosen.items():
            table[column] = which.groupby(runs["label"]).sum().reindex(labels).astype(int)
        table["seeds"] = [ranges(runs.loc[counted & (runs["label"] == label), "seed"]) for label in labels]
        table["metric"] = f"{metric} ({unit.unit})" if unit.unit else metric
        table["statistic"], table["interval"] = NAMES[band.estimator], WORDS[band.interval]
        table["notes"] = ". ".join([*notes, seeds_of(runs[counted])])
        table["benchmark"] = name
        tables.append(table.rename_axis("method").reset_index())
    if not tables:
        raise AnalysisError("no finished task to summarise")
    table = pd.concat(tables, ignore_index=True)
    first = ["benchmark", "method", "metric", "seeds", "n", "n_early", "diverged", "left_out"]
    last = ["statistic", "interval", "notes"]
    return table[[*first, *(c for c in table.columns if c not in (*first, *last)), *last]]


def text(table: pd.DataFrame, naming: Naming | None = None, notes: Sequence[str] = ()) -> str:
    """For a terminal: aligned columns, one block per benchmark. notes: further sentences, without full stops."""
    blocks = [f"{title}\n{text_table.aligned(cells)}\n{note}" for title, cells, note in _blocks(table, naming)]
    return "\n\n".join([*blocks, ". ".join([note(table), *notes])])


def markdown(table: pd.DataFrame, naming: Naming | None = None, notes: Sequence[str] = ()) -> str:
    blocks = []
    for title, cells, of_benchmark in _blocks(table, naming):
        benchmark, _, metric = title.partition(": ")
        blocks.append(f"**{benchmark}**: {metric}\n\n{text_table.markdown(cells)}\n\n{of_benchmark}.")
    words = ". ".join([note(table), *notes])
    return "\n\n".join([*blocks, f"{words[0].upper()}{words[1:]}."]) + "\n"


def tex(table: pd.DataFrame, naming: Naming | None = None, notes: Sequence[str] = ()) -> str:
    given = set((naming or Naming()).given(map(str, table["method"])).values())
    words = ". ".join([note(table), *notes])
    words = f"{words[0].upper()}{words[1:]}."
    return latex.document(
        [latex.tabular(cells, title, f"{of}. {words}", given) for title, cells, of in _blocks(table, naming)]
    )


def note(table: pd.DataFrame) -> str:
    """How its numbers were made, and what they do not show."""
    statistic = str(table["statistic"].iloc[0])
    estimator = "" if statistic == NAMES["mean"] else f"the {statistic} "
    sentences = [NOTE.format(estimator=estimator, interval=table["interval"].iloc[0])]
    sentences += ["Diverged runs count early only"] if table["diverged"].any() else []
    return ". ".join(
        [*sentences, *text_table.cautions(statistic, str(table["interval"].iloc[0]), table[["n", "n_early"]])]
    )


def write(
    table: pd.DataFrame,
    folder: Path,
    naming: Naming | None = None,
    notes: Sequence[str] = (),
    formats: Sequence[str] = (),
) -> list[Path]:
    """`table.csv` (numbers in full) and `table.md` in an existing folder; `table.tex` if 'tex' is in `formats`."""
    given = (table, naming, notes)
    return write_table(folder, "table", with_notes(table, notes), markdown(*given), lambda: tex(*given), formats)


def _blocks(table: pd.DataFrame, naming: Naming | None) -> Iterable[tuple[str, text_table.Cells, str]]:
    """Of each benchmark title, cells, and a sentence without full stop."""
    for (benchmark, metric), rows in table.groupby(["benchmark", "metric"], sort=False):
        given = (naming or Naming()).given(map(str, rows["method"]))
        cells = [list(HEADINGS), *(_cells(row, given) for row in rows.to_dict("records"))]
        yield f"{benchmark}: {metric}", cells, str(rows["notes"].iloc[0])


def _cells(row: Mapping[Hashable, Any], given: Mapping[str, str]) -> list[str]:
    def interval(name: str, n: str) -> str:
        numbers = [float(row[name + end]) for end in ("", "_low", "_high")]
        return text_table.interval(numbers, str(row["metric"]), int(row[n]))

    extra = [f"{row[name]} {name.replace('_', ' ')}" for name in ("diverged", "left_out") if row[name]]
    numbers = [interval("early", "n_early"), interval("late", "n"), interval("change", "n")]
    return [given.get(str(row["method"]), str(row["method"])), ", ".join([str(row["n"]), *extra]), *numbers]
