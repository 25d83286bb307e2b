"""`lop-figures SWEEP`: figures and tables of a sweep, also of one that is still running."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from lop_sweeps import __version__
from lop_sweeps.console import closing_quietly
from lop_sweeps.dot_env import load_dot_env
from lop_sweeps.errors import LopError
from lop_sweeps.terminal import printable, say
from lop_sweeps.trusted_option import add_trusted

from . import field, page
from .errors import AnalysisError
from .figures.limits import Limits, parse
from .figures.style import StyleName
from .names.naming import Naming
from .reading.load import Sweep, load, local_folders, output_folder
from .reading.remote import SCHEME, Address
from .reading.where import OPERATORS
from .report import FORMATS, Options, Report, write
from .statistics.band import Band
from .statistics.estimators import Estimator
from .statistics.interval import Interval
from .statistics.recorded import recorded, tuning_runs
from .statistics.selection import Selection, select
from .statistics.study import study
from .tables import comparison as comparison_table
from .tables import early_late
from .tables import leaderboard as leaderboard_table
from .tables import power as power_table
from .tables import selection as selection_table
from .tables.files import write_csv

__all__ = ["main"]


@closing_quietly  # everything is written before the first line is printed
def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 with one line on stderr for whatever the user can put right.

    Everything is written before the first line is printed.
    """
    printable()
    options = parser().parse_args(argv)
    load_dot_env()
    return _studies(options) if all(path.endswith(".csv") for path in options.sweep) else _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        band, limits = Band(options.statistic, options.interval), parse(options.limits)
        out = output_folder(options.sweep, options.out)
        sweep, tuning, selection = load(options.sweep, options.where), None, None
        if options.tuning_seeds:
            selection = select(sweep, options.tuning_seeds, by=options.method, band=band)
            sweep, tuning = selection.sweep, sweep.of_seeds(options.tuning_seeds)
        elif (selection := recorded(sweep, folders := local_folders(options.sweep), band)) is not None:
            sweep, tuning = selection.sweep, tuning_runs(folders)
        labels = list(map(str, sweep.runs["label"].unique()))
        wanted = _options(options, band, limits, Naming.parse(options.order, options.label, options.colour, labels))
        if options.report and "png" not in wanted.formats:
            raise AnalysisError("a report needs its figures as PNG: --format png,...")
        report = write(sweep, out, wanted, tuning, selection)
        if options.leaderboard:
            field.of_sweep(sweep, local_folders(options.sweep), out, wanted, options.oracle, report)
        if options.csv and selection is not None and not options.tuning_seeds:
            report.paths.append(write_csv(out / "study.csv", study(sweep, tuning, local_folders(options.sweep))))
        if options.seeds_for:
            report.told.append(
                power_table.text(power_table.table(sweep, options.seeds_for, options.baseline), wanted.naming)
            )
        if options.video:
            report.paths.extend(videos(sweep, out, options.trusted))
        if options.report:
            report.paths.append(_page(sweep, report, selection, out))
        link = _upload(report, sweep, options.sweep) if options.upload else ""
    except (AnalysisError, LopError) as error:
        print(f"lop-figures: {error}", file=sys.stderr)
        return 2
    notes = [f"Note: {note}." for note in [*sweep.notes, *report.notes]]
    skipped = [f"Not drawn: {reason}." for reason in report.skipped]
    paths = [*map(str, report.paths), *([link] if link else [])]
    return say("\n".join([sweep.progress(), *notes, "", _tables(report, wanted.naming), "", *skipped, *paths]))


def _options(given: argparse.Namespace, band: Band, limits: Limits, naming: Naming) -> Options:
    return Options(
        figures=given.figure,
        metrics=given.metric,
        per_layer=given.per_layer,
        k=given.bin,
        formats=[name.strip() for name in given.format.split(",") if name.strip()],
        style=given.style,
        band=band,
        baseline=given.baseline,
        naming=naming,
        limits=limits,
        csv=given.csv,
    )


def _tables(report: Report, naming: Naming) -> str:
    differences = [comparison_table.text(report.differences, naming)] if len(report.differences) else []
    return "\n\n".join([early_late.text(report.summary, naming), *differences, *report.told])


def _studies(options: argparse.Namespace) -> int:
    """The leaderboard of `study.csv` files."""
    try:
        if options.out is None:
            raise AnalysisError("say where the leaderboard of these files goes (--out DIR)")
        naming = Naming.parse(options.order, options.label, options.colour, [])
        wanted = _options(options, Band(options.statistic, options.interval), {}, naming)
        board = field.of_studies(list(map(Path, options.sweep)), wanted, options.oracle)
        paths = field.write(board, options.out, wanted)
    except AnalysisError as error:
        print(f"lop-figures: {error}", file=sys.stderr)
        return 2
    return say("\n".join([leaderboard_table.text(board, naming), "", *map(str, paths)]))


def _page(sweep: Sweep, report: Report, selection: Selection | None, out: Path) -> Path:
    """`report.html`, with every figure that was drawn as PNG."""
    pictures = [
        page.Picture(drawing.title, out / f"{name}.png", drawing.text)
        for name, drawing in report.drawn.items()
        if out / f"{name}.png" in report.paths
    ]
    names = {"table": "Early and late performance", "comparison": "Compared with the baseline"}
    names[field.NAME] = field.TITLE
    tables: dict[str, Any] = {
        title: (out / f"{name}.md").read_text(encoding="utf-8")
        for name, title in names.items()
        if out / f"{name}.md" in report.paths
    }
    if selection is not None:
        tables["How hyper-parameters were selected"] = selection_table.markdown(selection.table)
    if report.notes:
        sweep = replace(sweep, notes=[*sweep.notes, *report.notes])
    command = shlex.join(["lop-figures", *sys.argv[1:]])
    return page.write(sweep, pictures, tables, report.skipped, out / "report.html", command)


def _upload(report: Report, sweep: Sweep, given: Sequence[str]) -> str:
    from lop_sweeps.sweeps.run_directory import RunDirectory
    from lop_sweeps.tracking.upload import upload

    project = next((Address.parse(url).path for url in given if url.startswith(SCHEME)), None)
    return upload(report.paths, RunDirectory(Path(sweep.runs["folder"].iloc[0])), project)


def videos(sweep: Sweep, out: Path, trusted: Sequence[str] = ()) -> list[Path]:
    """A moving picture of each method's policy, of its run with the lowest seed."""
    from lop_sweeps.sweeps.video import record  # the one thing here that needs the environments, and torch

    first = sweep.runs[sweep.runs["tasks"] > 0].sort_values("seed").drop_duplicates(["benchmark", "label"])
    names = [re.sub(r"[^\w.=+-]+", "_", f"{run.benchmark}_{run.label}") for run in first.itertuples()]
    pairs = zip(first["folder"], names, strict=True)
    return [record(Path(folder), out / f"{name}.gif", trusted=trusted) for folder, name in pairs]


def seeds(text: str) -> list[int]:
    """'0-4,7' → [0, 1, 2, 3, 4, 7]."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise argparse.ArgumentTypeError(f"{text!r}: seeds are numbers and ranges, such as 0-4,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise argparse.ArgumentTypeError(f"{text!r}: {first}-{last} holds no seed")
        found.extend(range(first, last + 1))
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="lop-figures",
        description="Figures of a sweep (performance, diagnostics, comparisons: what makes sense for it) and tables of "
        "early and late performance and of differences, with 95% intervals over runs. Works while it runs.",
    )
    add = made.add_argument
    add("--version", action="version", version=f"lop-sweeps {__version__}")
    add(
        "sweep",
        nargs="+",
        help="sweep folder, a pattern, or wandb://entity/project?group=NAME (with --out); or study.csv files",
    )
    add("--out", type=Path, metavar="DIR", help="where to write (default: figures in the sweep)")
    add("--report", action="store_true", help="also report.html: all of it in one file to pass on")
    add(
        "--csv",
        action="store_true",
        help="also runs.csv (values of each run), curves.csv, and study.csv of a selection",
    )
    add("--upload", action="store_true", help="also put figures into the sweep's group in W&B")
    add(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only runs with this, as 'optimizer.step_size==0.01' or 'seed in 0,1,2'; operators: "
        f"{', '.join(OPERATORS)}; repeated: all of them",
    )
    add(
        "--figure",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="draw only these: performance, overview, comparison, sensitivity, ... (a wrong name lists them)",
    )
    add(
        "--metric",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="draw these metrics instead; with --figure overview: as panels beside performance",
    )
    add("--per-layer", action="store_true", help="also draw each diagnostic with a panel per layer")
    add("--bin", type=int, metavar="K", help="tasks averaged per point (default: what the benchmark says)")
    add(
        "--statistic",
        choices=get_args(Estimator),
        default="mean",
        help="of the runs (default: mean; iqm: of the middle half)",
    )
    add(
        "--interval",
        choices=get_args(Interval),
        help="around it (default: t, Student's, of means; bootstrap of medians and IQM); see docs/statistics.md",
    )
    add("--baseline", metavar="LABEL", help="what methods are compared with (default: backprop)")
    add(
        "--leaderboard",
        action="store_true",
        help="also methods x benchmarks: means, what is level with the best, normalised scores (name all sweeps)",
    )
    add(
        "--oracle",
        metavar="LABEL",
        help="with --leaderboard: what loses nothing, score 1 (default: retrained_network, or reset)",
    )
    add(
        "--seeds-for",
        type=float,
        metavar="DIFFERENCE",
        help="also how many seeds would find this difference from the baseline, in the unit of the tables",
    )
    add(
        "--tuning-seeds",
        type=seeds,
        metavar="SEEDS",
        help="select each method's hyper-parameters on these seeds (0-4), and show the chosen ones on the others",
    )
    add(
        "--method",
        default="algorithm",
        metavar="COLUMN",
        help="with --tuning-seeds: what tells methods apart (default: algorithm; or variant)",
    )
    add(
        "--order",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="labels that come first, in this order; here and below a method's name stands for its label",
    )
    add(
        "--label",
        action="append",
        default=[],
        metavar="LABEL=TEXT",
        help=r"what a label is called; $\rho=10^{-4}$ in it is a formula",
    )
    add(
        "--colour",
        "--color",
        action="append",
        default=[],
        metavar="LABEL=COLOUR",
        help="as matplotlib knows it: black, tab:blue, #009E73",
    )
    add(
        "--limits",
        action="append",
        default=[],
        metavar="METRIC=LOW:HIGH",
        help="of all axes that show it, in the unit that is drawn: accuracy=60:95; task=0:100 of those over tasks; "
        "difference=-5:5 of those of differences",
    )
    add(
        "--format", default=",".join(FORMATS), help="comma-separated: png, pdf, svg; tex: tables (default: %(default)s)"
    )
    add("--video", action="store_true", help="in control: also each method's policy at work, of its first seed (GIF)")
    add_trusted(made, "--video")
    add("--style", choices=get_args(StyleName), default="paper", help="sizes (default: paper)")
    return made


if __name__ == "__main__":
    sys.exit(main())
