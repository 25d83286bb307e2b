"""The table of the field: methods x benchmarks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..names.naming import Naming
from ..statistics.curve_summary import SUMMARIES
from ..statistics.interval import NAMES, WORDS
from ..statistics.leaderboard import Leaderboard
from . import latex, text_table
from .files import write_table

BEST, LEVEL = "**", "="  # around the best mean; behind one that is not distinguishable from it
NOTE = (
    "{statistic} over seeds of the {summary} ({interval}); in bold the best, with = what is not distinguishable from "
    "it (paired t-test by seed, p >= 0.05 after Holm's correction for the number of methods). Score: 0 is {base}, 1 "
    "is the oracle, which begins each task anew; over {scored}, with the 95% percentile interval of resampled seeds. "
    "Rank: mean over the benchmarks that a method was run on"
)


def markdown(board: Leaderboard, naming: Naming | None = None) -> str:
    return f"{text_table.markdown(_table(board, naming))}\n\n{_note(board)}\n"


def text(board: Leaderboard, naming: Naming | None = None) -> str:
    return f"{text_table.aligned(_table(board, naming))}\n\n{_note(board)}"


def tex(board: Leaderboard, naming: Naming | None = None) -> str:
    cells = [[cell.replace(BEST, "") for cell in row] for row in _table(board, naming)]
    given = set((naming or Naming()).given(map(str, board.methods["method"])).values())
    return latex.document([latex.tabular(cells, "Methods and benchmarks", _note(board), given)])


def write(
    board: Leaderboard,
    folder: Path,
    naming: Naming | None = None,
    formats: Sequence[str] = (),
) -> list[Path]:
    """`leaderboard.csv` (a row per benchmark and method), `.md`, and `.tex` if that is in `formats`."""
    joined = board.cells.merge(
        board.methods[["method", "score", "score_low", "score_high"]], on="method", suffixes=("", "_overall")
    )
    shown = markdown(board, naming)
    return write_table(folder, "leaderboard", joined, shown, lambda: tex(board, naming), formats)


def _table(board: Leaderboard, naming: Naming | None) -> text_table.Cells:
    names = list(dict.fromkeys(map(str, board.cells["benchmark"])))
    metrics = {name: str(board.cells.loc[board.cells["benchmark"] == name, "metric"].iloc[0]) for name in names}
    given = (naming or Naming()).given(map(str, board.methods["method"]))
    headings = ["method", *(f"{name}, {metrics[name]}" for name in names), "score", "rank"]
    ranks = dict(zip(map(str, board.methods["method"]), map(float, board.methods["rank"]), strict=True))
    cells = [headings]
    for row in board.methods.itertuples():
        method = str(row.method)
        of = board.cells[board.cells["method"] == method].set_index("benchmark")
        shown = [_cell(of.loc[[name]].iloc[0]) if name in of.index else "–" for name in names]
        numbers = [float(getattr(row, key)) for key in ("score", "score_low", "score_high")]
        score = text_table.interval(numbers, "%", 0)
        cells.append([given.get(method, method), *shown, score, f"{ranks[method]:.1f}"])
    return cells


def _cell(row: pd.Series) -> str:
    numbers = [float(row[name]) for name in ("mean", "low", "high")]
    text = text_table.interval(numbers, str(row["metric"]), int(row["n"]))
    if row["best"]:
        text = f"{BEST}{text}{BEST}"
    elif row["level"]:
        text = f"{text} {LEVEL}"
    return f"{text}, {row['diverged']} diverged" if row["diverged"] else text


def _note(board: Leaderboard) -> str:
    statistic, interval = NAMES[board.band.estimator], WORDS[board.band.interval]
    scored = ", ".join(board.scored) if board.scored else "no benchmark"
    words = [
        NOTE.format(
            statistic=statistic.capitalize(),
            summary=SUMMARIES[board.summary],
            interval=interval,
            base=board.baseline,
            scored=scored,
        )
    ]
    words += text_table.cautions(statistic, interval, np.asarray(board.cells["n"]))
    return f"{'. '.join([*words, *board.notes])}."
