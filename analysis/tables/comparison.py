"""The table of differences: each method against the baseline, seed by seed."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..names.label import ordered
from ..names.naming import Naming
from ..names.quantity import quantity
from ..names.resolve import one_label, resolve
from ..names.seeds import seeds_of
from ..reading.load import Sweep
from ..reading.metric import performance_metric
from ..statistics.band import DEFAULT, Band
from ..statistics.compared import comparable
from ..statistics.comparison import compare, default_baseline
from ..statistics.curve_summary import SUMMARIES, per_run
from ..statistics.interval import NAMES, WORDS
from ..statistics.paired_test import p_text, smallest_wilcoxon
from . import latex, text_table
from .files import with_notes, write_table

HEADINGS = ("method", "runs", "pairs", "difference", "p, t-test", "p, Wilcoxon", "probability of being better")
NOTE = (
    "difference: {summary}, method − {baseline}, {statistic} over seeds that both have ({interval}); p: "
    "two-sided paired tests of that difference, each for itself, not corrected for the number of methods; probability "
    "that a run of the method is better than one of {baseline} (0.5: no difference; a run that diverged is worse than "
    "any), with its 95% score interval, as Wilson's is of a share (none below three runs)"
)
# Pairs below which Wilcoxon's test cannot come below 0.05.
FEW_PAIRS = 6


def comparison_table(
    sweep: Sweep,
    baseline: str | None = None,
    summary: str = "late",
    band: Band = DEFAULT,
    naming: Naming | None = None,
) -> pd.DataFrame:
    """`comparison.compare` for each benchmark with several labels, in the drawn unit; empty if there is none.

    Methods are compared over the tasks that all have (`comparable`). baseline: a label, or a name that stands for one;
    default `default_baseline`. naming: for the order. Raises AnalysisError if no benchmark has the baseline.
    """
    tables = []
    every = ordered(map(str, sweep.runs["label"].unique()))
    if baseline is not None and not resolve(baseline, every):
        one_label(baseline, every, "to compare with")
    for name in sweep.benchmarks:
        part = sweep.of(name)
        metric = performance_metric(part.tasks)
        unit = quantity(metric)
        tasks, notes = comparable(part.tasks, metric)
        summaries = per_run(tasks, metric)
        labels = set(map(str, summaries["label"].unique()))
        if len(labels) < 2 or (baseline is not None and not resolve(baseline, labels)):
            continue
        base = baseline or default_baseline(summaries, part.runs, unit.larger_is_better)
        base = one_label(base, labels, "to compare with")
        table = compare(summaries, base, summary, unit, band).set_index("label")
        table = table.loc[[label for label in (naming or Naming()).ordered(labels) if label != base]].reset_index()
        table[["difference", "difference_low", "difference_high"]] *= unit.scale
        table["statistic"], table["interval"] = NAMES[band.estimator], WORDS[band.interval]
        seeds = seeds_of(part.runs[part.runs["run"].isin(summaries["run"])])
        table["notes"] = ". ".join([*notes, seeds])
        table.insert(0, "summary", summary)
        table.insert(0, "baseline", base)
        table.insert(0, "metric", f"{metric} ({unit.unit})" if unit.unit else metric)
        table.insert(0, "benchmark", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def text(table: pd.DataFrame, naming: Naming | None = None, notes: Sequence[str] = ()) -> str:
    return "\n\n".join(
        f"{title}\n{text_table.aligned(cells)}\n\n{note}" for title, cells, note in _blocks(table, naming, notes)
    )


def markdown(table: pd.DataFrame, naming: Naming | None = None, notes: Sequence[str] = ()) -> str:
    blocks = [
        f"**{title}**\n\n{text_table.markdown(cells)}\n\n{note[0].upper()}{note[1:]}."
        for title, cells, note in _blocks(table, naming, notes)
    ]
    return "\n\n".join(blocks) + "\n"


def tex(table: pd.DataFrame, naming: Naming | None = None, notes: Sequence[str] = ()) -> str:
    given = set((naming or Naming()).given(map(str, table["label"])).values())
    return latex.document(
        [latex.tabular(cells, title, f"{note}.", given) for title, cells, note in _blocks(table, naming, notes)]
    )


def write(
    table: pd.DataFrame,
    folder: Path,
    naming: Naming | None = None,
    notes: Sequence[str] = (),
    formats: Sequence[str] = (),
) -> list[Path]:
    """`comparison.csv`, `comparison.md` in an existing folder, and `comparison.tex` if 'tex' is in `formats`."""
    given = (table, naming, notes)
    return write_table(folder, "comparison", with_notes(table, notes), markdown(*given), lambda: tex(*given), formats)


def _blocks(
    table: pd.DataFrame, naming: Naming | None, notes: Sequence[str]
) -> Iterable[tuple[str, text_table.Cells, str]]:
    for (benchmark, metric, base), rows in table.groupby(["benchmark", "metric", "baseline"], sort=False):
        given = (naming or Naming()).given([*map(str, rows["label"]), str(base)])
        baseline, pairs = given.get(str(base), str(base)), rows["pairs"]
        statistic, interval = (str(rows[name].iloc[0]) for name in ("statistic", "interval"))
        summary = SUMMARIES[str(rows["summary"].iloc[0])]
        words = [NOTE.format(summary=summary, baseline=baseline, statistic=statistic, interval=interval)]
        words += text_table.cautions(statistic, interval, pairs)
        if rows["p_wilcoxon"].notna().any() and (least := int(pairs[rows["p_wilcoxon"].notna()].min())) < FEW_PAIRS:
            words.append(f"Of {least} pairs Wilcoxon's p cannot be below {smallest_wilcoxon(least):.3g}")
        cells = [list(HEADINGS), *(_cells(row, given) for row in rows.to_dict("records"))]
        title = f"{benchmark}: {metric}, against {baseline}"
        yield title, cells, ". ".join([*words, str(rows["notes"].iloc[0]), *notes])


def _cells(row: Mapping[Hashable, Any], given: Mapping[str, str]) -> list[str]:
    difference, improvement = (
        [float(row[name + end]) for end in ("", "_low", "_high")] for name in ("difference", "improvement")
    )
    diverged = f", {row['diverged']} diverged" if row["diverged"] else ""
    tests = [p_text(float(row[name])) for name in ("p_t", "p_wilcoxon")]
    label, pairs = given.get(str(row["label"]), str(row["label"])), int(row["pairs"])
    return [
        label,
        f"{row['n']}{diverged}",
        str(pairs),
        text_table.interval(difference, str(row["metric"]), pairs, sign=True),
        *tests,
        text_table.interval(improvement, "%", 0),
    ]
