"""Where the data sets are."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(configured: str | None) -> Path:
    """The folder of the data sets: what is configured, else the environment's LOP_DATA, else `data`."""
    return Path(os.path.expanduser(configured or os.environ.get("LOP_DATA") or "data"))
