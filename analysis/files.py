"""The one place that writes text: UTF-8, whatever the locale says; what is no character is written as its number."""

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
