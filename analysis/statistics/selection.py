"""Hyper-parameters are selected on tuning seeds; results are reported on the other seeds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd

from ..errors import AnalysisError
from ..names.label import COMPONENTS, LENGTHS, ordered
from ..names.quantity import Bounds, quantity
from ..names.seeds import ranges
from ..reading.load import Sweep
from ..reading.metric import performance_metric
from .band import DEFAULT, Band
from .curve_summary import SUMMARIES, bounds_of, per_run
from .interval import NAMES, WORDS


@dataclass(frozen=True)
class Selection:
    """sweep: of each method the chosen configuration, on report seeds only; its notes say how it was chosen.

    table: one row per benchmark and method: benchmark, method, metric, label (the chosen one), tried (configurations
    with runs on tuning seeds), tuning, tuning_low, tuning_high (estimate over tuning seeds of what was selected by, in
    the unit that was logged; being the best of those tried it is optimistic, and no result), tuning_n (runs of it),
    runner_up (the second best label, '' without one) with runner_up_tuning, _low and _high, edge (hyper-parameters of
    which the chosen value is the smallest or the largest that was tried, in words), tuning_seeds, report_seeds (text:
    '0–4, 7'), statistic, interval.
    words: how the settings were chosen, a sentence for captions without its full stop.
    """

    sweep: Sweep
    table: pd.DataFrame
    words: str = ""


def select(
    sweep: Sweep,
    tuning_seeds: Collection[int],
    by: str = "algorithm",
    summary: str = "area",
    larger_is_better: bool | None = None,
    band: Band = DEFAULT,
) -> Selection:
    """Per benchmark and method the configuration with the best `summary` over its runs on `tuning_seeds`.

    by: the column of `sweep.runs` that names the method ('algorithm', 'variant', …). summary: of the benchmark's
    performance, see `curve_summary.summarise`. larger_is_better: default what is known of the metric (errors and
    losses: smaller). band: best is what has the best of its estimates over runs; the table has its intervals. Of
    equally good configurations the first in `label.ordered`. One that diverged on a tuning seed is never chosen; one
    without runs on tuning seeds was not tried.

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
                row = _choose(runs[runs[by].astype(str) == method], larger, band, bounds_of(summary, quantity(metric)))
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
    notes = [*sweep.notes, _note(table, by, summary), *at_edges(table)]
    words = f"Of each {by} the setting that was best on seeds {'; '.join(dict.fromkeys(table['tuning_seeds']))}"
    return Selection(Sweep(runs, tasks, notes), table, words)


def _choose(runs: pd.DataFrame, larger_is_better: bool, band: Band, bounds: Bounds) -> dict[str, object]:
    """runs: of one method, with `value` and `tuning` → its row of the table."""
    tuning = runs[runs["tuning"]].sort_values("seed")
    tried = {label: tuning[tuning["label"] == label] for label in ordered(tuning["label"])}
    candidates = {label: group for label, group in tried.items() if not group["state"].eq("diverged").any()}
    if not candidates:
        raise AnalysisError("all its configurations diverged on tuning seeds" if tried else "no run on a tuning seed")
    _check_same(candidates)
    values = {label: group["value"].dropna().to_numpy(dtype=np.float64) for label, group in candidates.items()}
    found = {label: list(map(float, band.of(value, bounds))) for label, value in values.items() if len(value)}
    if not found:
        raise AnalysisError("its runs on tuning seeds have too few finished tasks")
    ranked = sorted(found, key=lambda label: found[label][0], reverse=larger_is_better)
    chosen, second = (*ranked, "")[:2]
    report = runs[(runs["label"] == chosen) & ~runs["tuning"]]
    if not (report["tasks"] > 0).any():
        raise AnalysisError(f"{chosen!r} has no finished task on a seed to report")
    return {
        "label": chosen,
        "tried": len(tried),
        **dict(zip(("tuning", "tuning_low", "tuning_high"), found[chosen], strict=True)),
        "tuning_n": len(values[chosen]),
        "runner_up": second,
        **dict(
            zip(
                ("runner_up_tuning", "runner_up_tuning_low", "runner_up_tuning_high"),
                found.get(second, [np.nan] * 3),
                strict=True,
            )
        ),
        "edge": _edge(tuning, chosen),
        "tuning_seeds": ranges(candidates[chosen]["seed"]),
        "report_seeds": ranges(report["seed"]),
        "statistic": NAMES[band.estimator],
        "interval": WORDS[band.interval],
    }


def _edge(tuning: pd.DataFrame, chosen: str) -> str:
    """'step_size=0.1 is the largest of 3': where a better value may lie beyond what was tried."""
    told = []
    for name in tuning.columns:
        option = str(name)
        if option.partition(".")[0] not in COMPONENTS or option.rpartition(".")[2] in LENGTHS or "." not in option:
            continue
        numbers = tuning[name][tuning[name].map(lambda value: isinstance(value, Real) and not isinstance(value, bool))]
        tried = sorted({float(number) for number in numbers.dropna()})
        of_chosen = {float(value) for value in numbers[tuning["label"] == chosen].dropna()}
        if len(tried) < 2 or len(of_chosen) != 1:
            continue
        value = of_chosen.pop()
        if value in (tried[0], tried[-1]):
            end = "smallest" if value == tried[0] else "largest"
            told.append(f"{option.rpartition('.')[2]}={value:g} is the {end} of {len(tried)}")
    return "; ".join(told)


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


def at_edges(table: pd.DataFrame) -> list[str]:
    """A sentence, without its full stop, on methods whose chosen value is at the edge of what was tried."""
    several = table["benchmark"].nunique() > 1
    rows = [row for row in table.to_dict("records") if row["edge"]]
    found = [f"{row['method']}{' on ' + str(row['benchmark']) if several else ''}: {row['edge']}" for row in rows]
    return [f"at the edge of what was tried, so a better value may lie beyond: {'; '.join(found)}"] if found else []


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
