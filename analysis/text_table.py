"""Tables as text: for a terminal, for Markdown; numbers with their intervals."""

from collections.abc import Sequence

import pandas as pd

Cells = Sequence[Sequence[str]]  # rows, the first of them the headings


def aligned(cells: Cells) -> str:
    """For a terminal: columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def markdown(cells: Cells) -> str:
    """The first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(cells[0]) - 1)]
    body = [[cell.replace("|", "\\|") for cell in row] for row in cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *body])


def interval(estimate: float, low: float, high: float, metric: str, sign: bool = False) -> str:
    """'93.10 [92.80, 93.41]'; two decimals for a metric in percent. sign: also of what is positive."""
    if pd.isna(estimate):
        return "–"
    if "%" in metric:
        kind = ".2f"
    elif abs(estimate) < 100:
        kind = ".3f"
    else:
        kind = ".4g" if abs(estimate) < 1e6 else ".3g"
    number = f"{{:{'+' * sign}{kind}}}"
    return number.format(estimate) + ("" if pd.isna(low) else f" [{number.format(low)}, {number.format(high)}]")
