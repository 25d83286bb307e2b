"""Tables as text: for a terminal, for Markdown; numbers with their intervals."""

from collections.abc import Sequence

import numpy.typing as npt
import pandas as pd

from ..statistics.interval import LEAST, NAMES, WORDS, ranges, too_narrow

Cells = Sequence[Sequence[str]]  # rows, the first of them the headings


def aligned(cells: Cells) -> str:
    """For a terminal: columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def markdown(cells: Cells) -> str:
    """The first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(cells[0]) - 1)]
    body = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *body])


def interval(numbers: Sequence[float], metric: str, runs: int, sign: bool = False) -> str:
    """'93.10 [92.80, 93.41]', of two runs '93.10 (92.80 to 93.41)'; two decimals for a metric in percent.

    numbers: estimate, low, high. sign: also of what is positive.
    """
    estimate, low, high = numbers
    if pd.isna(estimate):
        return "–"
    if "%" in metric:
        kind = ".2f"
    elif abs(estimate) < 100:
        kind = ".3f"
    else:
        kind = ".4g" if abs(estimate) < 1e6 else ".3g"
    number = f"{{:{'+' * sign}{kind}}}"
    if pd.isna(low):
        return number.format(estimate)
    ends = "({} to {})" if runs == LEAST - 1 else "[{}, {}]"
    return f"{number} {ends.format(number, number)}".format(estimate, low, high)


def cautions(statistic: str, interval: str, runs: npt.ArrayLike) -> list[str]:
    """Sentences about intervals of so many runs. statistic, interval: one of `NAMES` and of `WORDS`."""
    estimator = next(name for name, each in NAMES.items() if each == statistic)
    kind = next(name for name, each in WORDS.items() if each == interval)
    found = ["Of two runs: their range, in round brackets"] if ranges(runs) else []
    return found + too_narrow(estimator, kind, runs)
