"""The leaderboard's files: from sweeps, or from the files of studies."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .errors import AnalysisError
from .figures import canvas
from .figures.leaderboard import cost
from .figures.leaderboard import leaderboard as draw
from .figures.style import looks, settings
from .reading.load import Sweep
from .report import FIGURES, Drawing, Options, Report
from .statistics.leaderboard import Leaderboard, board, leaderboard
from .statistics.recorded import methods_of
from .statistics.study import parts_of, read_study
from .tables import leaderboard as table

NAME, TITLE = "leaderboard", "Methods and benchmarks"
TEXT = "How well each method does on each benchmark, what is level with the best, and one score over all."


def of_sweep(
    sweep: Sweep, folders: Sequence[Path], out: Path, options: Options, oracle: str | None, report: Report
) -> None:
    """Into a report: files, a figure, and the table as text. folders: of the sweeps, where selections say methods."""
    made = leaderboard(sweep, methods_of(sweep, folders), baseline=options.baseline, oracle=oracle, band=options.band)
    report.paths.extend(write(made, out, options))
    colours = looks(map(str, made.methods["method"]), options.naming)
    report.drawn[NAME] = Drawing(NAME, TITLE, TEXT, lambda: draw(made, colours, style=options.style))
    report.told.append(table.text(made, options.naming))


def of_studies(paths: Sequence[Path], options: Options, oracle: str | None) -> Leaderboard:
    """From `study.csv` files alone, without the runs."""
    parts, seconds = parts_of(pd.concat([read_study(path) for path in paths], ignore_index=True))
    return board(parts, seconds, baseline=options.baseline, oracle=oracle, band=options.band)


def write(made: Leaderboard, out: Path, options: Options) -> list[Path]:
    """Figure and tables. Raises AnalysisError if they cannot be written."""
    kinds = [extension for extension in options.formats if extension in FIGURES]
    colours, paths = looks(map(str, made.methods["method"]), options.naming), []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, figure in ((NAME, draw), (f"{NAME}_cost", cost)):
            if kinds and (figure is draw or made.cells["seconds"].notna().any()):
                files = [out / f"{name}.{extension}" for extension in kinds]
                canvas.save(figure(made, colours, style=options.style), files, settings(options.style))
                paths += files
        return [*paths, *table.write(made, out, options.naming, options.formats)]
    except OSError as error:
        raise AnalysisError(f"{out}: cannot be written: {error.strerror or error}") from error
