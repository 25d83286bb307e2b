"""Hyper-parameters are selected on tuning seeds; results are reported on the other seeds."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from .bootstrap import bootstrap
from .curve_summary import SUMMARIES, per_run
from .errors import AnalysisError
from .label import ordered
from .load import Sweep
from .quantity import performance_metric, quantity


@dataclass(frozen=True)
class Selection:
    """sweep: of each method the chosen configuration, on report seeds only; its notes say how it was chosen.

    table: one row per benchmark and method: benchmark, method, metric, label (the chosen one), tried (configurations
    with runs on tuning seeds), tuning, tuning_low, tuning_high (mean over tuning seeds of what was selected by, in the
    unit that was logged; being the best of those tried it is optimistic, and no result), tuning_seeds, report_seeds
    (text: '0–4, 7').
    """

    sweep: Sweep
    table: pd.DataFrame


def select(
    sweep: Sweep,
    tuning_seeds: Collection[int],
    by: str = "algorithm",
    summary: str = "area",
    larger_is_better: bool | None = None,
) -> Selection:
    """Per benchmark and method the configuration with the best mean of `summary` over its runs on `tuning_seeds`.

    by: the column of `sweep.runs` that names the method ('algorithm', 'variant', …). summary: of the benchmark's
    performance, see `curve_summary.summarise`. larger_is_better: default what is known of the metric (errors and
    losses: smaller). Of equally good configurations the first in `label.ordered`. One that diverged on a tuning seed is
    never chosen; one without runs on tuning seeds was not tried.

    Raises AnalysisError, naming the methods, if one has no run on a tuning seed or its chosen configuration no finished
    task on another; if all its configurations diverged; if those that did not were tried on different seeds or over
    different numbers of tasks (the sweep is not finished), so that the comparison would not be one; if runs have no
    value of `by`; for an unknown summary or column.
    """
    if summary not in SUMMARIES:
        raise AnalysisError(f"no summary {summary!r}; possible: {', '.join(SUMMARIES)}")
    if by not in sweep.runs.columns or sweep.runs[by].isna().any():
        raise AnalysisError(f"no column {by!r} that names the method of every run")
    rows: list[dict[str, object]] = []
    problems: list[str] = []
    for benchmark in sweep.benchmarks:
        part = sweep.of(benchmark)
        metric = performance_metric(part.tasks)
        values = per_run(part.tasks, metric).set_index("run")[summary]
        larger = quantity(metric).larger_is_better if larger_is_better is None else larger_is_better
        runs = part.runs.assign(value=part.runs["run"].map(values), tuning=part.runs["seed"].isin(list(tuning_seeds)))
        for method in ordered(map(str, runs[by])):
            try:
                row = _choose(runs[runs[by].astype(str) == method], larger)
            except AnalysisError as error:
                problems.append(f"{method} ({benchmark}): {error}")
            else:
                rows.append({"benchmark": benchmark, "method": method, "metric": metric, **row})
    if problems:
        raise AnalysisError(f"nothing can be selected: {'; '.join(problems)}")
    table = pd.DataFrame(rows)
    chosen = pd.MultiIndex.from_frame(table[["benchmark", "label"]])
    shown = pd.MultiIndex.from_frame(sweep.runs[["benchmark", "label"]]).isin(chosen)
    runs = sweep.runs[shown & ~sweep.runs["seed"].isin(list(tuning_seeds))].reset_index(drop=True)
    tasks = sweep.tasks[sweep.tasks["run"].isin(runs["run"])].reset_index(drop=True)
    return Selection(Sweep(runs, tasks, [*sweep.notes, _note(table, by, summary)]), table)


def _choose(runs: pd.DataFrame, larger_is_better: bool) -> dict[str, object]:
    """runs: of one method, with `value` and `tuning` → its row of the table."""
    tuning = runs[runs["tuning"]].sort_values("seed")
    tried = {label: tuning[tuning["label"] == label] for label in ordered(tuning["label"])}
    candidates = {label: group for label, group in tried.items() if not group["state"].eq("diverged").any()}
    if not candidates:
        raise AnalysisError("all its configurations diverged on tuning seeds" if tried else "no run on a tuning seed")
    _check_same(candidates)
    values = {label: group["value"].dropna() for label, group in candidates.items()}
    means = {label: float(value.mean()) for label, value in values.items() if len(value)}
    if not means:
        raise AnalysisError("its runs on tuning seeds have too few finished tasks")
    chosen = (max if larger_is_better else min)(means, key=lambda label: means[label])
    report = runs[(runs["label"] == chosen) & ~runs["tuning"]]
    if not (report["tasks"] > 0).any():
        raise AnalysisError(f"{chosen!r} has no finished task on a seed to report")
    estimate, low, high = map(float, bootstrap(values[chosen]))
    return {
        "label": chosen,
        "tried": len(tried),
        "tuning": estimate,
        "tuning_low": low,
        "tuning_high": high,
        "tuning_seeds": ranges(candidates[chosen]["seed"]),
        "report_seeds": ranges(report["seed"]),
    }


def _check_same(candidates: Mapping[str, pd.DataFrame]) -> None:
    """A configuration that is judged on its first tasks, or on fewer seeds, is not better for that."""
    extents = {label: list(zip(group["seed"], group["tasks"], strict=True)) for label, group in candidates.items()}
    first = next(iter(extents))
    for label, extent in extents.items():
        if extent != extents[first]:
            texts = [
                f"{name!r} (seeds {ranges(seed for seed, _ in extents[name])}; "
                f"{ranges(tasks for _, tasks in extents[name])} tasks)"
                for name in (first, label)
            ]
            raise AnalysisError(f"on tuning seeds {' and '.join(texts)} cannot be compared; finish these runs")


def ranges(numbers: Iterable[int]) -> str:
    """{0, 1, 2, 5} → '0–2, 5'."""
    found: list[list[int]] = []
    for number in sorted({int(number) for number in numbers}):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)


def _note(table: pd.DataFrame, by: str, summary: str) -> str:
    """Without a full stop, like a sweep's other notes."""
    several = table["benchmark"].nunique() > 1
    parts = []
    for (benchmark, metric, seeds), rows in table.groupby(["benchmark", "metric", "tuning_seeds"], sort=False):
        counts = ", ".join(f"{row.method} of {row.tried}" for row in rows.itertuples())
        parts.append(f"{metric}{f' of {benchmark}' if several else ''} on seeds {seeds} ({counts} configurations)")
    return (
        f"of each {by} one configuration is shown, which was selected on other seeds than those shown, by the "
        f"{SUMMARIES[summary]}: {'; '.join(parts)}"
    )
