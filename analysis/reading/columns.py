"""`metrics.jsonl` → one array per metric.

A thousand runs hold a gigabyte of JSON. Arrow makes columns of an ordinary file without making Python objects, and lets
other threads work meanwhile. What a row is, what is damaged and what a cell is worth is defined by the plain reader; a
file goes to it whenever the two might differ.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json

from ..errors import AnalysisError

Column = npt.NDArray[Any]
# Columns, and how many rows they have.
Table = tuple[dict[str, Column], int]

# Where the readers differ: line ends, infinite numbers, the integer -0 (in Arrow -0.0), and null, which Arrow
# loses at the beginning of a list (github.com/apache/arrow/issues/51305).
ODD = (b"\r", b"null", b"Inf")
ODD_NUMBER = re.compile(rb"-(?:NaN|0[^0-9.eE])")
# Levels of nesting. Arrow calls itself for each, and some 10,000 end the process with its stack.
DEEPEST = 2_000
# Bytes. Arrow counts them in 32 bits.
LARGEST_FILE = 2**30
# What a list may hold; null: nothing.
NUMBERS = (pa.float64(), pa.int64(), pa.bool_(), pa.null())


def read_columns(path: Path) -> dict[str, Column]:
    """Metric → (tasks,), or (tasks, layers) for a list per layer; `task`, `examples` are int64.

    What a row lacks is NaN; text and objects are left out; no file is no task.
    Raises AnalysisError naming the file, and the line of a damaged row.
    """
    columns, count = read_fast(path) or read_plain(path)
    for name in ("task", "examples"):
        column = columns.get(name, np.arange(count) if name == "task" else np.full(count, np.nan))
        columns[name] = column if np.isnan(column).any() else column.astype(np.int64)
    back = np.flatnonzero(np.diff(columns["task"]) <= 0)
    if back.size:
        raise AnalysisError(f"{path}, line {back[0] + 2}: tasks are out of order (a task is there twice?)")
    return columns


def read_plain(path: Path) -> Table:
    """All columns as floats, by Python's JSON reader."""
    rows = read_rows(path)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: column for name in names if (column := _column(name, rows, path)) is not None}
    return columns, len(rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a damaged last line, being written or cut by a kill, is left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:  # a folder, or somebody else's
        raise AnalysisError(f"{path}: cannot be read: {error.strerror or error}") from error
    lines = text.split("\n")
    if not lines[-1].strip():
        lines.pop()
    try:  # one call for all lines is faster; the count betrays a row that two damaged lines make up
        rows = json.loads(f"[{','.join(lines)}]")
        if len(rows) == len(lines) and all(isinstance(row, dict) for row in rows):
            return list(rows)
    except ValueError:
        pass
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
        except ValueError as error:
            if number == len(lines):
                break
            raise AnalysisError(f"{path}, line {number}: damaged row ({error})") from error
        rows.append(row)
    return rows


def _column(name: str, rows: list[dict[str, Any]], path: Path) -> Column | None:
    """(tasks,) or (tasks, layers) floats, absent or null = NaN; None for text and objects."""
    cells = [row.get(name) for row in rows]
    first = next((cell for cell in cells if cell is not None), None)
    if isinstance(first, list):
        cells = [[np.nan] * len(first) if cell is None else cell for cell in cells]
    elif not isinstance(first, int | float):
        return None
    try:
        column = np.array(cells, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AnalysisError(f"{path}: {name!r} changes its shape between tasks") from error
    return column if column.ndim <= 2 else None


def read_fast(path: Path) -> Table | None:
    """The same by Arrow; None for a file that the plain reader has to look at."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    lines = _lines(data)
    if not lines:
        return None
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(data), pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1)
        )
    except pa.ArrowException:
        return None
    if table.num_rows != lines:  # two rows in one line
        return None
    columns = {}
    for name, chunks in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_struct(chunks.type) or pa.types.is_string(chunks.type) or pa.types.is_timestamp(chunks.type):
            continue
        column = _numbers(chunks.chunk(0))
        if column is None or np.isinf(column).any():  # infinite: too large for a double
            return None
        columns[name] = column
    return columns, lines


def _lines(data: bytes) -> int:
    """The number of lines if each is `{…}` and Arrow can be trusted with what is between; 0 otherwise."""
    if len(data) > LARGEST_FILE or not data.isascii() or ODD_NUMBER.search(data):
        return 0
    if any(odd[:1] in data and odd in data for odd in ODD):  # one byte is found 50 times faster than three
        return 0
    lines = data.split(b"\n")
    if lines.pop():
        return 0
    usual = all(
        line.startswith(b"{")
        and line.endswith(b"}")
        and (len(line) <= DEEPEST or line.count(b"[") + line.count(b"{") <= DEEPEST)
        for line in lines
    )
    return len(lines) if usual else 0


def _numbers(array: Any) -> Column | None:
    """(tasks,) or (tasks, layers), what a row lacks NaN; None for lists of anything else or of several lengths."""
    if not pa.types.is_list(array.type):
        return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    if array.type.value_type not in NUMBERS:
        return None
    values = _numbers(array.flatten())
    present = array.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.diff(array.offsets)[present]
    if values is None or np.any(lengths != lengths[0]):
        return None
    rows = values.reshape(len(lengths), lengths[0])
    if len(rows) == len(array):
        return rows
    column = np.full((len(array), lengths[0]), np.nan)
    column[present] = rows
    return column
