"""`lop-figures SWEEP`: figures and a table of a sweep, also of one that is still running."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lop_sweeps.errors import LopError

from . import table
from .errors import AnalysisError
from .load import Sweep, load
from .report import FORMATS, make, output_folder, write

__all__ = ["main", "make", "print_table"]


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 2 with one line on stderr for whatever the user can put right."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except BrokenPipeError:  # the output went to `head`; everything is written before the first line is printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace) -> int:
    try:
        out = output_folder(options.sweep, options.out)
        sweep = load(options.sweep)
        report = write(
            sweep,
            out,
            metrics=options.metric,
            per_layer=options.per_layer,
            k=options.bin,
            formats=[name.strip() for name in options.format.split(",") if name.strip()],
            style=options.style,
        )
        if options.video:
            report.paths.extend(videos(sweep, out))
    except (AnalysisError, LopError) as error:
        print(f"lop-figures: {error}", file=sys.stderr)
        return 2
    print(sweep.progress())
    for note in sweep.notes:
        print(f"Note: {note}.")
    print()
    print_table(sweep)
    print()
    for reason in report.skipped:
        print(f"Not drawn: {reason}.")
    for path in report.paths:
        print(path)
    return 0


def videos(sweep: Sweep, out: Path) -> list[Path]:
    """A moving picture of each method's policy, of its run with the lowest seed."""
    from lop_sweeps.sweep.video import record  # the one thing here that needs the environments, and torch

    first = sweep.runs[sweep.runs["tasks"] > 0].sort_values("seed").drop_duplicates(["benchmark", "label"])
    names = [re.sub(r"[^\w.=+-]+", "_", f"{run.benchmark}_{run.label}") for run in first.itertuples()]
    return [record(Path(folder), out / f"{name}.gif") for folder, name in zip(first["folder"], names, strict=True)]


def print_table(sweep: Sweep) -> None:
    """The summary table as aligned text on stdout."""
    print(table.text(table.summary(sweep)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lop-figures",
        description="Figures (performance, dead units, weight magnitude, effective rank, overview) and a table of "
        "early and late performance, with 95%% bootstrap intervals over runs. Works while the sweep runs.",
    )
    parser.add_argument("sweep", nargs="+", help="sweep folder, e.g. sweeps/permuted_mnist_small, or a pattern")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: figures in the sweep)")
    parser.add_argument(
        "--metric", nargs="+", action="extend", default=[], metavar="NAME", help="draw these metrics instead"
    )
    parser.add_argument("--per-layer", action="store_true", help="also draw each diagnostic with a panel per layer")
    parser.add_argument(
        "--bin", type=int, metavar="K", help="tasks averaged per point (default: what the benchmark says)"
    )
    parser.add_argument("--format", default=",".join(FORMATS), help="comma-separated (default: %(default)s)")
    parser.add_argument(
        "--video", action="store_true", help="in control: also each method's policy at work, of its first seed (GIF)"
    )
    parser.add_argument("--style", choices=("paper", "notebook"), default="paper", help="sizes (default: paper)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
