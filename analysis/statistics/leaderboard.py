"""Methods x benchmarks: how well each does on each, which are as good as the best, and one score over all.

Scores are normalised as (method − baseline) / (oracle − baseline): 0 is as good as the baseline, 1 as what loses
nothing. Returns of games are normalised so; the resampling of runs within each benchmark is that of Agarwal et al.,
"Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import AnalysisError
from ..names.label import ordered
from ..names.quantity import quantity
from ..names.resolve import one_label, resolve
from ..reading.load import Sweep
from ..reading.metric import performance_metric
from .band import DEFAULT, Band
from .compared import comparable
from .curve_summary import SUMMARIES, bounds_of, per_run
from .paired_test import paired_test

FloatArray = npt.NDArray[np.float64]
Scores = dict[str, tuple[float, FloatArray]]  # method -> score, and those of resamples
LEVEL = 0.05
RESAMPLES = 10_000
BASELINES = ("backprop",)
ORACLES = ("retrained_network", "reset", "from_scratch")  # what begins each task anew loses nothing


@dataclass(frozen=True)
class Leaderboard:
    """cells: one row per benchmark and method: benchmark, metric, method, n, diverged, mean, low, high (in the drawn
    unit), rank (1 is best), p (Holm-corrected, of the paired t-test against the best; NaN for it, and below three
    pairs), best, level (not distinguishable from it), score, score_low, score_high (NaN where the benchmark has none),
    seconds (median of a run, of one core; NaN if unknown).
    methods: one row per method: method, benchmarks (on which it was run), score, score_low, score_high (over `scored`;
    NaN unless it was run on all of them), rank (mean).
    scored: benchmarks with normalised scores. notes: sentences, why others have none among them. baseline: the method
    that is 0.
    """

    cells: pd.DataFrame
    methods: pd.DataFrame
    scored: Sequence[str]
    notes: Sequence[str]
    baseline: str = "backprop"
    band: Band = DEFAULT
    summary: str = "area"


@dataclass
class Part:
    """One benchmark. sign: 1 where more is better, else -1. values: method -> of its runs, by seed, as logged.

    diverged: method -> runs that did, which have no value.
    """

    name: str
    metric: str
    sign: float
    values: dict[str, pd.Series] = field(default_factory=dict)
    diverged: dict[str, int] = field(default_factory=dict)

    def add(self, method: str, values: pd.Series, diverged: int) -> None:
        if values.index.has_duplicates:
            text = f"{self.name}: {method} has several settings on one seed; choose one (hydra/sweeper=select, --where)"
            raise AnalysisError(text)
        self.values[method], self.diverged[method] = values, diverged


def leaderboard(
    sweep: Sweep,
    methods: Mapping[str, str] | None = None,
    *,
    summary: str = "area",
    baseline: str | None = None,
    oracle: str | None = None,
    band: Band = DEFAULT,
    seed: int = 0,
) -> Leaderboard:
    """Of all benchmarks in a sweep (several folders, as `load` reads them).

    methods: run -> its method's name; default its label. summary: of a run, see `curve_summary.SUMMARIES`. The rest as
    of `board`. Methods are compared over the tasks that all have (`comparable`). Raises AnalysisError for an unknown
    summary, baseline or oracle, and for fewer than two methods.
    """
    if summary not in SUMMARIES:
        raise AnalysisError(f"no summary {summary!r}; possible: {', '.join(SUMMARIES)}")
    runs = sweep.runs["run"].astype(str)
    names = sweep.runs["label"].astype(str) if methods is None else runs.map(dict(methods)).fillna(sweep.runs["label"])
    of_run = dict(zip(runs, names.astype(str), strict=True))
    parts = [_part(sweep.of(name), of_run, summary) for name in sweep.benchmarks]
    return board(parts, _seconds(sweep, of_run), summary, baseline, oracle, band, seed)


def board(
    parts: Sequence[Part],
    seconds: Mapping[tuple[str, str], float],
    summary: str = "area",
    baseline: str | None = None,
    oracle: str | None = None,
    band: Band = DEFAULT,
    seed: int = 0,
) -> Leaderboard:
    """Of benchmarks whose values are there. seconds: by benchmark and method, where they are known.

    baseline, oracle: a method, or a name that stands for one; by default backprop, and what trains a new network for
    each task. band: of means. seed: of the resampling. One with a diverged run is neither best nor level with the best.
    """
    every = ordered({method for part in parts for method in part.values})
    if len(every) < 2:
        raise AnalysisError("a leaderboard needs two methods")
    base = _found(baseline, BASELINES, every, "0") or every[0]
    best = _found(oracle, ORACLES, every, "1")
    cells: list[pd.DataFrame] = []
    notes: list[str] = []
    tables: list[tuple[Part, Scores]] = []
    for part in parts:
        cells.append(_cells(part, summary, band))
        why = _unscored(part, base, best, band)
        if why:
            notes.append(f"{part.name} has no normalised scores: {why}")
        else:
            assert best is not None
            tables.append((part, _scores(part, base, best, seed + len(tables))))
    table = pd.concat(cells, ignore_index=True)
    return _joined(table, tables, every, notes, band, summary, seconds, base)


def _found(given: str | None, usual: Sequence[str], every: Sequence[str], what: str) -> str | None:
    """The method that is asked for, or the first that is called by one of the usual names."""
    if given is not None:
        return one_label(given, every, f"to be {what} of the normalised scores")
    called = {method.lower().replace(" ", "_"): method for method in every}
    for name in usual:
        if labels := [called[name]] if name in called else resolve(name, every):
            return labels[0]
    return None


def _part(part: Sweep, of_run: Mapping[str, str], summary: str) -> Part:
    metric = performance_metric(part.tasks)
    tasks = part.tasks.assign(label=part.tasks["run"].astype(str).map(dict(of_run)))
    tasks, _ = comparable(tasks, metric)
    values = per_run(tasks, metric)
    found = Part(part.benchmarks[0], metric, 1.0 if quantity(metric).larger_is_better else -1.0)
    for method, group in values.groupby(values["run"].astype(str).map(dict(of_run))):
        diverged = group["state"] == "diverged"
        found.add(str(method), group[~diverged].set_index("seed")[summary].dropna().sort_index(), int(diverged.sum()))
    return found


def _cells(found: Part, summary: str, band: Band) -> pd.DataFrame:
    unit = quantity(found.metric)
    bounds, rows = bounds_of(summary, unit), []
    means = {method: float(of.mean()) for method, of in found.values.items()}
    order = sorted(means, key=lambda method: (np.isnan(means[method]), -found.sign * means[method]))
    winners = [method for method in order if not found.diverged[method] and len(found.values[method])]
    best = winners[0] if winners else None
    others = [method for method in winners if method != best]
    p = holm([_p(found.values[method], found.values[str(best)]) for method in others])
    against = dict(zip(others, p, strict=True))
    for rank, method in enumerate(order, 1):
        of = found.values[method]
        estimate = (
            [unit.scale * float(x) for x in band.of(of.to_numpy(dtype=np.float64), bounds)] if len(of) else [np.nan] * 3
        )
        rows.append(
            {
                "benchmark": found.name,
                "metric": f"{found.metric} ({unit.unit})" if unit.unit else found.metric,
                "method": method,
                "n": len(of),
                "diverged": found.diverged[method],
                **dict(zip(("mean", "low", "high"), estimate, strict=True)),
                "rank": rank,
                "p": against.get(method, np.nan),
                "best": method == best,
                "level": method in against and not against[method] < LEVEL,
            }
        )
    return pd.DataFrame(rows)


def _p(one: pd.Series, other: pd.Series) -> float:
    """Of the paired t-test; 0 where the same difference is found on every seed."""
    difference = (one - other).dropna().to_numpy(dtype=np.float64)
    p = paired_test(difference)[0]
    same = len(difference) >= 3 and np.isnan(p) and abs(difference.mean()) > 0
    return 0.0 if same else p


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979); NaN stays and does not count."""
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    found, largest = values.copy(), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, float(values[i]) * (len(order) - place)))
        found[i] = largest
    return list(map(float, found))


def _unscored(found: Part, base: str, oracle: str | None, band: Band) -> str:
    """Why a benchmark has no normalised scores; '' if it has."""
    if oracle is None:
        return f"no method begins each task anew ({' or '.join(ORACLES)}), and no other oracle is named"
    for name, what in ((base, "baseline"), (oracle, "oracle")):
        if name not in found.values or not len(found.values[name]):
            return f"its {what} ({name}) was not run"
    if base == oracle:
        return "baseline and oracle are one method"
    gap = found.sign * (found.values[oracle] - found.values[base]).dropna().to_numpy(dtype=np.float64)
    if len(gap) < 3:
        return "oracle and baseline have fewer than three seeds in common"
    _, low, high = (float(x) for x in band.of(gap))
    if high < 0:
        return f"{oracle} is worse than {base}: what is kept from task to task is of more use than what is lost"
    return "" if low > 0 else f"that {oracle} is better than {base} is not certain (the difference's interval covers 0)"


def _scores(found: Part, base: str, oracle: str, seed: int) -> Scores:
    """Method -> normalised score, and those of resamples of the seeds (RESAMPLES,).

    A method is compared on the seeds that it has in common with both; one resample of seeds serves all methods, since
    what the seeds share is shared by all of them.
    """
    generator = np.random.default_rng(seed)
    seeds = sorted(set(found.values[base].index) & set(found.values[oracle].index))
    draws = generator.integers(0, len(seeds), (RESAMPLES, len(seeds)))
    scores = {}
    for method, of in found.values.items():
        table = pd.DataFrame({"method": of, "base": found.values[base], "oracle": found.values[oracle]}).reindex(seeds)
        values = table.to_numpy(dtype=np.float64)
        if np.isnan(values).any():
            continue
        resampled = values[draws].mean(axis=1)
        mean = values.mean(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = (resampled[:, 0] - resampled[:, 1]) / (resampled[:, 2] - resampled[:, 1])
        scores[method] = float((mean[0] - mean[1]) / (mean[2] - mean[1])), drawn
    return scores


def _joined(
    cells: pd.DataFrame,
    tables: Sequence[tuple[Part, Scores]],
    every: Sequence[str],
    notes: list[str],
    band: Band,
    summary: str,
    seconds: Mapping[tuple[str, str], float],
    base: str,
) -> Leaderboard:
    columns = {name: np.full(len(cells), np.nan) for name in ("score", "score_low", "score_high", "seconds")}
    for i, row in enumerate(cells.itertuples()):
        columns["seconds"][i] = seconds.get((str(row.benchmark), str(row.method)), np.nan)
    for found, scores in tables:
        for i, row in enumerate(cells.itertuples()):
            if row.benchmark == found.name and row.method in scores:
                score, drawn = scores[str(row.method)]
                columns["score"][i], columns["score_low"][i], columns["score_high"][i] = score, *_ends(drawn)
    rows = []
    for method in every:
        of = cells[cells["method"] == method]
        parts = [scores[method] for _, scores in tables if method in scores]
        numbers = [np.nan] * 3
        if tables and len(parts) == len(tables):
            numbers = [
                float(np.mean([score for score, _ in parts])),
                *_ends(np.mean([drawn for _, drawn in parts], axis=0)),
            ]
        names = ("score", "score_low", "score_high")
        rank = float(of["rank"].mean())
        rows.append({"method": method, "benchmarks": len(of), **dict(zip(names, numbers, strict=True)), "rank": rank})
    methods = pd.DataFrame(rows)
    methods = methods.sort_values(["score", "rank"], ascending=[False, True], na_position="last", ignore_index=True)
    scored = [found.name for found, _ in tables]
    return Leaderboard(cells.assign(**columns), methods, scored, notes, base, band, summary)


def _ends(drawn: FloatArray) -> tuple[float, float]:
    """The percentile interval; without ends where a resample has no gap between oracle and baseline."""
    if not np.isfinite(drawn).all():
        return np.nan, np.nan
    low, high = np.quantile(drawn, (LEVEL / 2, 1 - LEVEL / 2))
    return float(low), float(high)


def _seconds(sweep: Sweep, of_run: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """Median over runs of what one takes of a core, by benchmark and method, as far as their folders say."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in sweep.runs.to_dict("records"):
        if (seconds := core_seconds(Path(str(row["folder"])))) is not None:
            found.setdefault((str(row["benchmark"]), of_run[str(row["run"])]), []).append(seconds)
    return {key: float(np.median(of)) for key, of in found.items()}


def core_seconds(run: Path) -> float | None:
    """What a run took of one core, to a hundredth: CPU seconds of its sessions, shared with its pack.

    Sessions of before these were noted count by the clock. None if one has not ended by itself.
    """
    try:
        sessions = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["sessions"]
        times = [
            one.get("cpu_seconds", one["ended"] - one["began"]) / (one["pack"] if one["engine"] == "torch" else 1)
            for one in sessions
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return round(float(sum(times)), 2) if times else None
