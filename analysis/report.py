"""All figures and tables of a sweep, written to a folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from . import table
from .aggregate import check_metric
from .errors import AnalysisError
from .figures.diagnostic import diagnostic
from .figures.overview import overview
from .figures.performance import performance
from .figures.style import Look, StyleName, looks
from .frame import layers
from .load import Sweep, load, sweep_folders
from .quantity import diagnostics_of

FORMATS = ("png", "pdf")
DPI = 200


@dataclass(frozen=True)
class Report:
    """paths: what was written. skipped: which figures were not, with the reason."""

    paths: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def make(
    sweep_paths: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    metrics: Sequence[str] = (),
    per_layer: bool = False,
    k: int | None = None,
    formats: Sequence[str] = FORMATS,
    style: StyleName = "paper",
) -> list[Path]:
    """Load, draw, write; the paths. out: default `figures` in the sweep's folder. Options: `write`."""
    folder = output_folder(sweep_paths, out)
    sweep = load(sweep_paths)
    report = write(sweep, folder, metrics=metrics, per_layer=per_layer, k=k, formats=formats, style=style)
    return report.paths


def output_folder(sweep_paths: str | Path | Sequence[str | Path], out: str | Path | None) -> Path:
    """Raises AnalysisError for several sweeps without `out`: their figures belong to none of them."""
    if out is not None:
        return Path(out)
    folders = sweep_folders(sweep_paths)
    if len(folders) > 1:
        raise AnalysisError("several sweeps are drawn together: say where the figures go (--out DIR)")
    return folders[0] / "figures"


def write(
    sweep: Sweep,
    out: Path,
    *,
    metrics: Sequence[str] = (),
    per_layer: bool = False,
    k: int | None = None,
    formats: Sequence[str] = FORMATS,
    style: StyleName = "paper",
) -> Report:
    """One set of figures per benchmark, and the table of them all.

    metrics: draw these instead of the usual set. per_layer: also a figure with one panel per layer for each
    diagnostic. k: tasks averaged per point in every figure, default what the benchmark says for its
    performance. Raises AnalysisError for an unknown metric or format before anything is written, and if `out`
    cannot be.
    """
    unknown = [name for name in formats if name not in Figure().canvas.get_supported_filetypes()]
    if unknown or not formats:
        raise AnalysisError(f"no figure format {', '.join(unknown) or 'given'}; png, pdf and svg are possible")
    for metric in metrics:
        check_metric(sweep.tasks, metric)
    if k is not None and k < 1:
        raise AnalysisError(f"a point must average at least one task, not {k}")
    report = Report()
    colours = looks(sweep.runs["label"])
    try:
        out.mkdir(parents=True, exist_ok=True)
        for benchmark in sweep.benchmarks:
            part = sweep.of(benchmark)
            prefix = f"{benchmark}_" if len(sweep.benchmarks) > 1 else ""
            for name, draw in _figures(part, metrics, per_layer, k, colours, style).items():
                try:
                    report.paths.extend(_save(draw(), out, prefix + name, formats))
                except AnalysisError as error:
                    report.skipped.append(f"{prefix}{name}: {error}")
        report.paths.extend(table.write(table.summary(sweep), out))
    except OSError as error:
        raise AnalysisError(f"{out}: cannot be written: {error.strerror or error}") from error
    return report


def _figures(
    part: Sweep,
    metrics: Sequence[str],
    per_layer: bool,
    k: int | None,
    colours: Mapping[str, Look],
    style: StyleName,
) -> dict[str, Callable[[], Figure]]:
    """File name → function that draws. One that cannot be drawn raises AnalysisError with the reason."""
    tasks, runs = part.tasks, part.runs
    drawn: dict[str, Callable[[], Figure]] = {}
    wanted: dict[str, str | None] = dict(zip(metrics, metrics, strict=True))
    if not metrics:
        drawn["performance"] = partial(performance, tasks, runs, k=k, looks=colours, style=style)
        wanted = diagnostics_of(tasks)
    for name, metric in wanted.items():
        drawn[name] = partial(_one, part, metric, k, colours, style)
        if per_layer and metric is not None and layers(tasks, metric):
            drawn[f"{name}_per_layer"] = partial(
                diagnostic, tasks, runs, metric, per_layer=True, k=k or 1, looks=colours, style=style
            )
    if not metrics:
        drawn["overview"] = partial(overview, tasks, runs, k=k, looks=colours, style=style)
    return drawn


def _one(part: Sweep, metric: str | None, k: int | None, colours: Mapping[str, Look], style: StyleName) -> Figure:
    if metric is None:
        raise AnalysisError("no run has such values (networks without hidden layers have none)")
    return diagnostic(part.tasks, part.runs, metric, k=k or 1, looks=colours, style=style)


def _save(fig: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """The same data give the same bytes: no date in the file."""
    paths = [folder / f"{name}.{extension}" for extension in formats]
    with mpl.rc_context({"pdf.fonttype": 42, "svg.hashsalt": name}):  # 42: text stays text in the PDF
        for path in paths:
            dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
            fig.savefig(path, dpi=DPI, metadata=dated.get(path.suffix[1:]))
    return paths
