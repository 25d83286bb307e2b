"""Tables of a page: of a frame, of Markdown, of rows."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from .markup import Html, element, join

CELL = re.compile(r"(?<!\\)\|")
EMPHASIS = re.compile(r"(\*\*.+?\*\*|`[^`]+`)")
# Significant digits of the largest number of a cell.
DIGITS = 4


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = (), name: str = "Table"
) -> Html:
    """In a box of its own that scrolls where the table is wider than the page.

    The first cell of a row is its heading. numbers: positions of columns that are aligned to the right. name: for
    those who cannot see it.
    """
    return scrolling(element("tr", *_cells("th", headings, numbers, "col")), (row(r, numbers) for r in rows), name)


def scrolling(head: Html, body: Iterable[Html], name: str) -> Html:
    content = element("table", element("thead", head), "\n", element("tbody", join(body, "\n")))
    return element("div", content, class_="scroll", tabindex="0", role="region", aria_label=name)


def row(cells: Sequence[str], numbers: Sequence[int] = ()) -> Html:
    first, *others = _cells("td", cells, numbers)
    return element("tr", element("th", cells[0], scope="row"), *others) if first else Html()


def of_frame(frame: pd.DataFrame, name: str = "Table") -> Html:
    """One row per row; the columns x, x_low, x_high become one: 0.90 [0.80, 0.95]."""
    frame = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
    columns = list(map(str, frame.columns))
    ends = {end for column in columns for end in (f"{column}_low", f"{column}_high")}
    shown = [column for column in columns if column not in ends]
    numbers = [i for i, column in enumerate(shown) if pd.api.types.is_numeric_dtype(frame[column])]
    rows = [
        [_number(record[column], record.get(f"{column}_low"), record.get(f"{column}_high")) for column in shown]
        for record in frame.to_dict("records")
    ]
    return table([column.replace("_", " ") for column in shown], rows, numbers, name)


def of_text(text: str, name: str = "Table") -> Html:
    """Markdown with a table, as `early_late.markdown` writes it; any other text with its line breaks."""
    if not re.search(r"^\|", text, re.MULTILINE):
        return element("div", element("pre", text), class_="scroll", tabindex="0", role="region", aria_label=name)
    blocks = [block for block in re.split(r"\n\s*\n|\n(?=\|)(?<!\|\n)", text.strip()) if block.strip()]
    return join((_pipes(block, name) if block.startswith("|") else _paragraph(block) for block in blocks), "\n")


def _pipes(block: str, name: str) -> Html:
    lines = [[cell.strip() for cell in CELL.split(line.strip().strip("|"))] for line in block.splitlines()]
    headings, alignment, *rows = [[cell.replace("\\|", "|") for cell in line] for line in lines]
    return table(headings, rows, [i for i, cell in enumerate(alignment) if cell.endswith(":")], name)


def _paragraph(text: str) -> Html:
    parts = EMPHASIS.split(" ".join(text.split()))
    tags = {"*": "strong", "`": "code"}
    return element("p", *(element(tags[p[0]], p.strip("*`")) if i % 2 else p for i, p in enumerate(parts)))


def _cells(name: str, cells: Sequence[str], numbers: Sequence[int], scope: str = "") -> list[Html]:
    scoped = {"scope": scope} if scope else {}
    return [
        element(name, cell, **({"class_": "number"} if i in numbers else {}), **scoped) for i, cell in enumerate(cells)
    ]


def _number(value: object, low: object = None, high: object = None) -> str:
    """'–' for nothing; all three with the same number of digits after the point."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_) or not isinstance(value, float | np.floating):
        return str(value)
    numbers = [float(value), *(float(end) for end in (low, high) if isinstance(end, float) and not np.isnan(end))]
    largest = max(map(abs, numbers))
    if not np.isfinite(largest) or (largest and not 1e-3 <= largest < 1e6):
        texts = [f"{number:.{DIGITS}g}" for number in numbers]
    else:
        places = max(0, DIGITS - 1 - int(np.floor(np.log10(largest)))) if largest else 0
        texts = [f"{number:.{places}f}" for number in numbers]
    texts = [text.replace("-", "−") for text in texts]
    return texts[0] if len(texts) < 3 else f"{texts[0]} [{texts[1]}, {texts[2]}]"
