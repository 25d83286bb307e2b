"""All figures and tables of a sweep, written to a folder."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from .errors import AnalysisError
from .figures import canvas
from .figures.births_and_deaths import births_and_deaths
from .figures.comparison import comparison
from .figures.correlation import correlation
from .figures.diagnostic import diagnostic
from .figures.learning_curve import learning_curve
from .figures.limits import Limits, limit
from .figures.overview import overview
from .figures.performance import performance
from .figures.relative import relative, retrained
from .figures.sensitivity import parameters, sensitivity
from .figures.style import Looks, StyleName, looks, settings
from .names.naming import Naming
from .names.quantity import quantity
from .reading.frame import is_control, layers, metric_names
from .reading.load import LEFT_OUT, Sweep, load, output_folder
from .reading.metric import check_metric, diagnostics_of, performance_metric
from .statistics.band import DEFAULT, Band
from .statistics.compared import missing
from .statistics.selection import Selection
from .tables import comparison as comparison_table
from .tables import early_late, export
from .tables import selection as selection_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf")
# tex: of the tables.
FIGURES, TABLES = ("png", "pdf", "svg"), ("tex",)
CORRELATED_TASKS = 10  # fewer say nothing about how two quantities go together
# Of a file's name without its ending; file systems take 255 bytes.
LONGEST = 120


@dataclass(frozen=True)
class Options:
    """What `lop-figures` is asked for.

    figures: only these of the usual set, by name ('sensitivity' is those of all hyper-parameters). metrics: draw these
    instead of it; with figures=['overview'], as the panels beside performance. per_layer: also a figure with one panel
    per layer for each diagnostic.
    k: tasks averaged per point, default what the benchmark says for its performance. formats: of figures, and 'tex' of
    tables. baseline: a label, or a name that stands for one, for what is drawn relative to it. naming: order, texts and
    colours of labels. limits: of axes, by the quantity that they show. csv: also values per run, and curves.
    """

    figures: Sequence[str] = ()
    metrics: Sequence[str] = ()
    per_layer: bool = False
    k: int | None = None
    formats: Sequence[str] = FORMATS
    style: StyleName = "paper"
    band: Band = DEFAULT
    baseline: str | None = None
    naming: Naming = field(default_factory=Naming)
    limits: Limits = field(default_factory=dict)
    csv: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure of the set: its file's name, its title and one sentence for the report. draw raises AnalysisError."""

    name: str
    title: str
    text: str
    draw: "Callable[[], Figure]"


@dataclass(frozen=True)
class Report:
    """paths: what was written. drawn: the figures among them, by file name. skipped: which were not, and why.

    summary, differences: the tables (`early_late.summary`, `comparison_table.comparison_table`). notes: sentences on
    what figures and tables leave out, and on how settings were chosen. told: further tables, as text.
    """

    summary: pd.DataFrame
    differences: pd.DataFrame
    paths: list[Path] = field(default_factory=list)
    drawn: dict[str, Drawing] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def make(
    sweep_paths: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    options: Options | None = None,
    where: Sequence[str] = (),
) -> list[Path]:
    """Load, draw, write; the paths. out: default `figures` in the sweep's folder. where: see `load`."""
    folder = output_folder(sweep_paths, out)
    return write(load(sweep_paths, where), folder, options or Options()).paths


def write(
    sweep: Sweep, out: Path, options: Options, tuning: Sweep | None = None, selection: Selection | None = None
) -> Report:
    """One set of figures per benchmark, and the tables of them all.

    tuning: runs that hyper-parameters were selected on, for the figures of sensitivity. selection: how, for captions,
    notes and a table. Raises AnalysisError for an unknown metric, format, label or baseline before anything is written,
    and if `out` cannot be.
    """
    _check(sweep, options)
    notes = [selection.words] if selection is not None else []
    differences = comparison_table.comparison_table(sweep, options.baseline, band=options.band, naming=options.naming)
    summary = early_late.summary(sweep, options.band, options.naming)
    told = [note for name in sweep.benchmarks for note in missing(*_performance(sweep.of(name)))]
    told += [f"of the choice: {note}" for note in (tuning.notes if tuning else ()) if note.startswith(LEFT_OUT)]
    report = Report(summary, differences, notes=told)
    drawings = _chosen(_all_drawings(sweep, options, tuning, notes), options)
    formats = [name for name in options.formats if name in FIGURES]
    met: set[str] = set()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, drawing in drawings.items() if formats else ():
            try:
                fig = drawing.draw()
            except AnalysisError as error:
                report.skipped.append(f"{name}: {error}")
            else:
                met |= limit(fig, options.limits)
                paths = [out / f"{name}.{extension}" for extension in formats]
                canvas.save(fig, paths, settings(options.style))
                report.paths.extend(paths)
                report.drawn[name] = drawing
        report.paths.extend(early_late.write(report.summary, out, options.naming, notes, options.formats))
        if len(differences):
            report.paths.extend(comparison_table.write(differences, out, options.naming, notes, options.formats))
        if selection is not None:
            report.paths.extend(selection_table.write(selection.table, out, options.formats))
        if options.csv:
            measures = [_performance(sweep.of(name))[1] for name in sweep.benchmarks]
            metrics = list(dict.fromkeys([*measures, *options.metrics]))
            report.paths.extend(export.write(sweep, out, metrics, options.k or 1, options.band, options.naming))
    except OSError as error:
        raise AnalysisError(f"{out}: cannot be written: {error.strerror or error}") from error
    unmet = [name for name in options.limits if name not in met] if formats else []
    report.skipped.extend(f"limits of {name}: no figure has an axis of it" for name in unmet)
    return report


def file_name(name: str) -> str:
    """Of a figure, from names that users chose: letters that every file system takes, and not too many."""
    plain = re.sub(r"[^\w.=+-]+", "_", name)
    if len(plain.encode()) <= LONGEST:
        return plain
    return f"{plain.encode()[:LONGEST].decode(errors='ignore')}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _performance(part: Sweep) -> tuple[pd.DataFrame, str]:
    return part.tasks, performance_metric(part.tasks)


def _check(sweep: Sweep, options: Options) -> None:
    unknown = [name for name in options.formats if name not in (*FIGURES, *TABLES)]
    if unknown or not options.formats:
        possible = f"{', '.join(FIGURES)}, and {', '.join(TABLES)} of tables"
        raise AnalysisError(f"no figure format {', '.join(unknown) or 'given'}; possible: {possible}")
    for metric in options.metrics:
        check_metric(sweep.tasks, metric)
    if options.k is not None and options.k < 1:
        raise AnalysisError(f"a point must average at least one task, not {options.k}")
    options.naming.check(map(str, sweep.runs["label"]))


def _all_drawings(sweep: Sweep, options: Options, tuning: Sweep | None, notes: Sequence[str]) -> dict[str, Drawing]:
    """By the name of the file."""
    colours = looks(sweep.runs["label"], options.naming)
    found: dict[str, Drawing] = {}
    for benchmark in sweep.benchmarks:
        part = sweep.of(benchmark)
        tuned = tuning.of(benchmark) if tuning is not None and benchmark in tuning.benchmarks else None
        prefix = f"{benchmark}_" if len(sweep.benchmarks) > 1 else ""
        for drawing in _drawings(part, tuned, options, colours, notes):
            name = file_name(prefix + drawing.name)
            if name in found:  # 'a/b' and 'a_b' are two metrics
                name = f"{name}_{hashlib.sha256(drawing.name.encode()).hexdigest()[:8]}"
            found[name] = drawing
    return found


def _chosen(drawings: dict[str, Drawing], options: Options) -> dict[str, Drawing]:
    """Those named, with or without what stands behind their kind; AnalysisError if one is not in the set."""
    chosen: dict[str, Drawing] = {}
    for wanted in options.figures:
        fits = {n: d for n, d in drawings.items() if wanted in (n, d.name) or d.name.startswith(f"{wanted}_")}
        if not fits:
            raise AnalysisError(f"no figure {wanted!r}; for this sweep there are: {', '.join(drawings)}")
        chosen |= fits
    return {name: drawings[name] for name in drawings if name in chosen} if options.figures else drawings


def _drawings(
    part: Sweep, tuned: Sweep | None, options: Options, colours: Looks, notes: Sequence[str]
) -> Iterator[Drawing]:
    """The figures that make sense for what one benchmark's runs have logged."""
    tasks, runs, k = part.tasks, part.runs, options.k
    banded: dict[str, Any] = {"looks": colours, "style": options.style, "notes": notes, "band": options.band}
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
    if not options.metrics or "overview" in options.figures:
        panels = list(options.metrics) or None
        yield Drawing(
            "overview",
            f"{measure} and its usual suspects",
            "Performance beside what may explain it.",
            partial(overview, tasks, runs, metrics=panels, k=k, **banded),
        )
    if not options.metrics:
        yield from _comparisons(part, tuned, options, banded)


def _comparisons(part: Sweep, tuned: Sweep | None, options: Options, banded: Mapping[str, Any]) -> Iterator[Drawing]:
    tasks, runs = part.tasks, part.runs
    measured = runs[runs["tasks"] > 0]
    baseline, several = options.baseline, measured["label"].nunique() > 1
    if several:
        text = "The last tenth of the tasks; right, the difference from the baseline, seed by seed."
        draw: Callable[[], Figure] = partial(comparison, tasks, runs, baseline=baseline, **banded)
        yield Drawing("comparison", "Methods compared", text, draw)
    if several and (baseline is not None or retrained(runs)):
        text = "Each run minus the baseline's run of the same seed."
        draw = partial(relative, tasks, runs, baseline=baseline, k=options.k, **banded)
        yield Drawing("relative", "Relative to the baseline", text, draw)
    varied = tuned or part
    swept = parameters(varied.runs)
    shorts = [parameter.rpartition(".")[2] for parameter in swept]
    for parameter, short in zip(swept, shorts, strict=True):
        kept = {**banded, "looks": looks(varied.runs["label"], options.naming)}
        if tuned is not None:
            kept["notes"] = ["These are the seeds on which the settings were chosen, not those of the other figures"]
        draw = partial(sensitivity, varied.tasks, varied.runs, parameter, **kept)
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
        draw = partial(correlation, tasks, runs, **banded)
        yield Drawing("correlation", "Diagnostics and performance", text, draw)


def _one(part: Sweep, metric: str | None, k: int | None, banded: Mapping[str, Any]) -> "Figure":
    if metric is None:
        raise AnalysisError("no run has such values (networks without hidden layers have none)")
    return diagnostic(part.tasks, part.runs, metric, k=k or 1, **banded)
