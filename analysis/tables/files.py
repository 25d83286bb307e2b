"""The one place that writes tables: UTF-8, whatever the locale says; what is no character is written as its number."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}


def write_text(path: Path, text: str) -> Path:
    """Raises OSError."""
    path.write_text(text, **ENCODING, newline="\n")
    return path


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Numbers in full. Raises OSError."""
    frame.to_csv(path, index=False, lineterminator="\n", **ENCODING)
    return path


def write_table(
    folder: Path, name: str, numbers: pd.DataFrame, markdown: str, tex: Callable[[], str], formats: Sequence[str]
) -> list[Path]:
    """`name.csv`, `name.md` in an existing folder, and `name.tex` if 'tex' is in `formats`. Raises OSError."""
    paths = [write_csv(folder / f"{name}.csv", numbers), write_text(folder / f"{name}.md", markdown)]
    return [*paths, *([write_text(folder / f"{name}.tex", tex())] if "tex" in formats else [])]


def with_notes(table: pd.DataFrame, notes: Sequence[str]) -> pd.DataFrame:
    """`notes` behind those that each row has."""
    return table.assign(notes=[". ".join([of, *notes]) for of in table["notes"]])
