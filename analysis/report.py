"""All figures and tables of a sweep, written to a folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from . import comparison_table, table
from .aggregate import check_metric
from .band import DEFAULT, Band
from .errors import AnalysisError
from .figures.births_and_deaths import births_and_deaths
from .figures.comparison import comparison
from .figures.correlation import correlation
from .figures.diagnostic import diagnostic
from .figures.learning_curve import learning_curve
from .figures.overview import overview
from .figures.performance import performance
from .figures.relative import relative, retrained
from .figures.sensitivity import parameters, sensitivity
from .figures.style import Look, StyleName, looks
from .frame import is_control, layers, metric_names
from .load import Sweep, load, output_folder
from .quantity import diagnostics_of, performance_metric, quantity

FORMATS = ("png", "pdf")
POSSIBLE = ("png", "pdf", "svg")
DPI = 200
CORRELATED_TASKS = 10  # fewer say nothing about how two quantities go together


@dataclass(frozen=True)
class Options:
    """What `lop-figures` is asked for.

    figures: only these of the usual set, by name ('sensitivity' is those of all hyper-parameters). metrics: draw these
    instead of it. per_layer: also a figure with one panel per layer for each diagnostic.
    k: tasks averaged per point, default what the benchmark says for its performance. baseline: a label, for what is
    drawn relative to one.
    """

    figures: Sequence[str] = ()
    metrics: Sequence[str] = ()
    per_layer: bool = False
    k: int | None = None
    formats: Sequence[str] = FORMATS
    style: StyleName = "paper"
    band: Band = DEFAULT
    baseline: str | None = None


@dataclass(frozen=True)
class Drawing:
    """A figure of the set: its file's name, its title and one sentence for the report. draw raises AnalysisError."""

    name: str
    title: str
    text: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Report:
    """paths: what was written. drawn: the figures among them, by file name. skipped: which were not, and why.

    summary, differences: the tables (`table.summary`, `comparison_table.comparison_table`).
    """

    summary: pd.DataFrame
    differences: pd.DataFrame
    paths: list[Path] = field(default_factory=list)
    drawn: dict[str, Drawing] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def make(
    sweep_paths: str | Path | Sequence[str | Path], out: str | Path | None = None, options: Options | None = None
) -> list[Path]:
    """Load, draw, write; the paths. out: default `figures` in the sweep's folder."""
    folder = output_folder(sweep_paths, out)
    return write(load(sweep_paths), folder, options or Options()).paths


def write(sweep: Sweep, out: Path, options: Options, tuning: Sweep | None = None) -> Report:
    """One set of figures per benchmark, and the tables of them all.

    tuning: runs that hyper-parameters were selected on, for the figures of sensitivity. Raises AnalysisError for an
    unknown metric, format or baseline before anything is written, and if `out` cannot be.
    """
    _check(sweep, options)
    differences = comparison_table.comparison_table(sweep, options.baseline)
    report, colours = Report(table.summary(sweep, options.band), differences), looks(sweep.runs["label"])
    drawings: dict[str, Drawing] = {}
    for benchmark in sweep.benchmarks:
        part = sweep.of(benchmark)
        tuned = tuning.of(benchmark) if tuning is not None and benchmark in tuning.benchmarks else part
        prefix = f"{benchmark}_" if len(sweep.benchmarks) > 1 else ""
        drawings |= {prefix + drawing.name: drawing for drawing in _drawings(part, tuned, options, colours)}
    drawings = _chosen(drawings, options.figures)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, drawing in drawings.items():
            try:
                paths = _save(drawing.draw(), out, name, options.formats)
            except AnalysisError as error:
                report.skipped.append(f"{name}: {error}")
            else:
                report.paths.extend(paths)
                report.drawn[name] = drawing
        report.paths.extend(table.write(report.summary, out))
        if len(differences):
            report.paths.extend(comparison_table.write(differences, out))
    except OSError as error:
        raise AnalysisError(f"{out}: cannot be written: {error.strerror or error}") from error
    return report


def _check(sweep: Sweep, options: Options) -> None:
    unknown = [name for name in options.formats if name not in POSSIBLE]
    if unknown or not options.formats:
        raise AnalysisError(f"no figure format {', '.join(unknown) or 'given'}; possible: {', '.join(POSSIBLE)}")
    for metric in options.metrics:
        check_metric(sweep.tasks, metric)
    if options.k is not None and options.k < 1:
        raise AnalysisError(f"a point must average at least one task, not {options.k}")


def _chosen(drawings: dict[str, Drawing], figures: Sequence[str]) -> dict[str, Drawing]:
    """Those named, with or without what stands behind their kind; AnalysisError if one is not in the set."""
    chosen: dict[str, Drawing] = {}
    for wanted in figures:
        fits = {n: d for n, d in drawings.items() if wanted in (n, d.name) or d.name.startswith(f"{wanted}_")}
        if not fits:
            raise AnalysisError(f"no figure {wanted!r}; for this sweep there are: {', '.join(drawings)}")
        chosen |= fits
    return {name: drawings[name] for name in drawings if name in chosen} if figures else drawings


def _drawings(part: Sweep, tuned: Sweep, options: Options, colours: Mapping[str, Look]) -> Iterator[Drawing]:
    """The figures that make sense for what one benchmark's runs have logged."""
    tasks, runs, k = part.tasks, part.runs, options.k
    common: dict[str, Any] = {"looks": colours, "style": options.style}
    banded = {**common, "band": options.band}
    wanted: Mapping[str, str | None] = dict(zip(options.metrics, options.metrics, strict=True)) or diagnostics_of(tasks)
    curve = learning_curve if is_control(tasks) else performance
    measure = quantity(performance_metric(tasks)).title
    if not options.metrics:
        yield Drawing(
            "performance", measure, "How well each task is learned.", partial(curve, tasks, runs, k=k, **banded)
        )
    for name, metric in wanted.items():
        title = quantity(metric or name).title
        yield Drawing(name, title, "", partial(_one, part, metric, k, banded))
        if options.per_layer and metric is not None and layers(tasks, metric):
            draw = partial(diagnostic, tasks, runs, metric, per_layer=True, k=k or 1, **banded)
            yield Drawing(f"{name}_per_layer", f"{title}, layer by layer", "", draw)
    if not options.metrics:
        yield Drawing(
            "overview",
            f"{measure} and its usual suspects",
            "The four panels of Nature 632: performance beside what may explain it.",
            partial(overview, tasks, runs, k=k, **banded),
        )
        yield from _comparisons(part, tuned, options, common, banded)


def _comparisons(
    part: Sweep, tuned: Sweep, options: Options, common: Mapping[str, Any], banded: Mapping[str, Any]
) -> Iterator[Drawing]:
    tasks, runs, baseline = part.tasks, part.runs, options.baseline
    measured = runs[runs["tasks"] > 0]
    several = measured["label"].nunique() > 1
    if several:
        text = "The last tenth of the tasks; right, the difference from the baseline, seed by seed."
        draw: Callable[[], Figure] = partial(comparison, tasks, runs, baseline=baseline, **common)
        yield Drawing("comparison", "Methods compared", text, draw)
    if several and (baseline is not None or retrained(runs)):
        text = "Each run minus the baseline's run of the same seed."
        draw = partial(relative, tasks, runs, baseline=baseline, k=options.k, **banded)
        yield Drawing("relative", "Relative to the baseline", text, draw)
    swept = parameters(tuned.runs)
    shorts = [parameter.rpartition(".")[2] for parameter in swept]
    for parameter, short in zip(swept, shorts, strict=True):
        kept = {**banded, "looks": looks(tuned.runs["label"])}
        draw = partial(sensitivity, tuned.tasks, tuned.runs, parameter, **kept)
        text = "Mean performance over all tasks against one hyper-parameter."
        yield Drawing(
            f"sensitivity_{short if shorts.count(short) == 1 else parameter}", f"Sensitivity to {parameter}", text, draw
        )
    known = metric_names(tasks)
    if {"replaced_units", "died_units"} & set(known):
        text = "Units that died, came back or were replaced, and the dead ones that there are."
        draw = partial(births_and_deaths, tasks, runs, **banded)
        yield Drawing("births_and_deaths", "Births and deaths of units", text, draw)
    if measured["tasks"].max() >= CORRELATED_TASKS:
        text = "Which diagnostics go with performance, over the tasks of a run and from run to run."
        draw = partial(correlation, tasks, runs, **common)
        yield Drawing("correlation", "Diagnostics and performance", text, draw)


def _one(part: Sweep, metric: str | None, k: int | None, banded: Mapping[str, Any]) -> Figure:
    if metric is None:
        raise AnalysisError("no run has such values (networks without hidden layers have none)")
    return diagnostic(part.tasks, part.runs, metric, k=k or 1, **banded)


def _save(fig: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """The same data give the same bytes: no date in the file."""
    paths = [folder / f"{name.replace('/', '_')}.{extension}" for extension in formats]
    with mpl.rc_context({"pdf.fonttype": 42, "svg.hashsalt": name}):  # 42: text stays text in the PDF
        for path in paths:
            dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
            fig.savefig(path, dpi=DPI, metadata=dated.get(path.suffix[1:]))
    return paths
