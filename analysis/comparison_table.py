"""The table of differences: each method against the baseline, seed by seed."""

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from . import text_table
from .bootstrap import FEW_RUNS, TOO_NARROW
from .comparison import comparable, compare, default_baseline
from .curve_summary import SUMMARIES, per_run
from .errors import AnalysisError
from .label import ordered
from .load import Sweep
from .quantity import performance_metric, quantity

HEADINGS = ("method", "runs", "pairs", "difference", "probability of being better")
NOTE = (
    "difference: {summary}, method − {baseline}, mean over seeds that both have; probability that a run of the method "
    "is better than one of {baseline} (0.5: no difference; a run that diverged is worse than any); 95% bootstrap "
    "intervals over runs"
)


def comparison_table(sweep: Sweep, baseline: str | None = None, summary: str = "late") -> pd.DataFrame:
    """`comparison.compare` for each benchmark with several labels, in the drawn unit; empty if there is none.

    Methods are compared over the tasks that all have (`comparison.comparable`). baseline: a label; default
    `comparison.default_baseline`. Raises AnalysisError if no benchmark has it.
    """
    tables = []
    for name in sweep.benchmarks:
        part = sweep.of(name)
        metric = performance_metric(part.tasks)
        unit = quantity(metric)
        tasks, notes = comparable(part.tasks, metric)
        summaries = per_run(tasks, metric)
        labels = set(map(str, summaries["label"].unique()))
        if len(labels) < 2 or (baseline is not None and baseline not in labels):
            continue
        base = baseline or default_baseline(summaries, part.runs, unit.larger_is_better)
        table = compare(summaries, base, summary, unit.larger_is_better)
        table[["difference", "difference_low", "difference_high"]] *= unit.scale
        table.insert(0, "notes", ". ".join(notes))
        table.insert(0, "summary", summary)
        table.insert(0, "baseline", base)
        table.insert(0, "metric", f"{metric} ({unit.unit})" if unit.unit else metric)
        table.insert(0, "benchmark", name)
        tables.append(table)
    every = ordered(map(str, sweep.runs["label"].unique()))
    if baseline is not None and baseline not in every:
        raise AnalysisError(f"no label {baseline!r} to compare with; there are: {'; '.join(every)}")
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def text(table: pd.DataFrame) -> str:
    return "\n\n".join(f"{title}\n{text_table.aligned(cells)}\n\n{note}" for title, cells, note in _blocks(table))


def markdown(table: pd.DataFrame) -> str:
    blocks = [
        f"**{title}**\n\n{text_table.markdown(cells)}\n\n{note[0].upper()}{note[1:]}."
        for title, cells, note in _blocks(table)
    ]
    return "\n\n".join(blocks) + "\n"


def write(table: pd.DataFrame, folder: Path) -> list[Path]:
    """`comparison.csv` and `comparison.md` in an existing folder; the figure is comparison.png."""
    paths = [folder / "comparison.csv", folder / "comparison.md"]
    table.to_csv(paths[0], index=False)
    paths[1].write_text(markdown(table), encoding="utf-8")
    return paths


def _blocks(table: pd.DataFrame) -> Iterable[tuple[str, text_table.Cells, str]]:
    for (benchmark, metric, baseline), rows in table.groupby(["benchmark", "metric", "baseline"], sort=False):
        words = [NOTE.format(summary=SUMMARIES[str(rows["summary"].iloc[0])], baseline=baseline)]
        words += [str(rows["notes"].iloc[0])] if rows["notes"].iloc[0] else []
        words += [TOO_NARROW] if rows["pairs"].between(2, FEW_RUNS - 1).any() else []
        title = f"{benchmark}: {metric}, against {baseline}"
        yield title, [list(HEADINGS), *(_cells(row) for row in rows.to_dict("records"))], ". ".join(words)


def _cells(row: Mapping[Hashable, Any]) -> list[str]:
    def interval(name: str, metric: str, sign: bool = False) -> str:
        estimate, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
        return text_table.interval(estimate, low, high, metric, sign)

    diverged = f", {row['diverged']} diverged" if row["diverged"] else ""
    difference = interval("difference", str(row["metric"]), sign=True)
    return [str(row["label"]), f"{row['n']}{diverged}", str(row["pairs"]), difference, interval("improvement", "%")]
