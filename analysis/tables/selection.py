"""How hyper-parameters were chosen: what was tried, what won, what came second, and by how much."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..names.quantity import quantity
from . import latex, text_table
from .files import write_table

HEADINGS = ("method", "chosen", "tried", "tuning", "runner-up", "its tuning", "at the edge", "reported on")
# Of a choice that was made rung by rung, and recorded.
MORE, RECORDED = ("stable", "tasks learned"), ("stability", "tuning_tasks")
RUNGS = (
    "Stable: share of resamples of the tuning seeds in which the setting survives every rung; settings that were "
    "dropped early have no later values, so none of them can come back. Tasks learned: by all runs that the choice took"
)
NOTE = (
    "Tuning: {statistic} over seeds {seeds} ({interval}) of what was chosen by; the best of several is optimistic, "
    "and no result. Nothing that is reported is of these seeds"
)


def markdown(table: pd.DataFrame) -> str:
    """table: of a `Selection`."""
    blocks = [f"**{title}**\n\n{text_table.markdown(cells)}\n\n{note}." for title, cells, note in _blocks(table)]
    return "\n\n".join(blocks) + "\n"


def tex(table: pd.DataFrame) -> str:
    return latex.document([latex.tabular(cells, title, f"{note}.") for title, cells, note in _blocks(table)])


def write(table: pd.DataFrame, folder: Path, formats: Sequence[str] = ()) -> list[Path]:
    """`selection.csv`, `selection.md` in an existing folder, and `selection.tex` if 'tex' is in `formats`."""
    return write_table(folder, "selection", table, markdown(table), lambda: tex(table), formats)


def _blocks(table: pd.DataFrame) -> Iterable[tuple[str, text_table.Cells, str]]:
    for (benchmark, metric, seeds), rows in table.groupby(["benchmark", "metric", "tuning_seeds"], sort=False):
        unit = quantity(str(metric))
        name = f"{metric} ({unit.unit})" if unit.unit else str(metric)
        statistic, interval = (str(rows[column].iloc[0]) for column in ("statistic", "interval"))
        words = [NOTE.format(statistic=statistic, seeds=seeds, interval=interval)]
        words += text_table.cautions(statistic, interval, rows["tuning_n"])
        more = [] if set(RECORDED) - set(rows.columns) else list(MORE)
        words += [RUNGS] if more else []
        cells = [[*HEADINGS, *more], *(_cells(row, name, unit.scale) for row in rows.to_dict("records"))]
        yield f"{benchmark}: {name}, chosen on seeds {seeds}", cells, ". ".join(words)


def _cells(row: Mapping[Hashable, Any], metric: str, scale: float) -> list[str]:
    best, second = (
        text_table.interval(
            [scale * float(row[name + end]) for end in ("", "_low", "_high")], metric, int(row["tuning_n"])
        )
        for name in ("tuning", "runner_up_tuning")
    )
    texts = [str(row[name]) or "–" for name in ("runner_up", "edge")]
    return [
        str(row["method"]),
        str(row["label"]),
        str(row["tried"]),
        best,
        texts[0],
        second,
        texts[1],
        f"seeds {row['report_seeds']}",
        *([f"{row['stability']:.0%}", str(row["tuning_tasks"])] if "stability" in row else []),
    ]
