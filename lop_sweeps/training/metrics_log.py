"""The append-only log of a run: one JSON object per line. It holds nothing measured by a clock."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from lop_sweeps.errors import CheckpointError


class MetricsLog:
    """Appends rows to `metrics.jsonl`, and knows how far the file is: (bytes, checksum).

    `position` goes into each checkpoint; opening the log at a position cuts off what was written after it.
    """

    NAME = "metrics.jsonl"

    def __init__(self, directory: Path, position: tuple[int, int] = (0, 0)) -> None:
        """Open the log at `position`; raise `CheckpointError` if the file does not hold what was written up to it."""
        self.check(directory, position)
        path = directory / self.NAME
        self._bytes, self._checksum = position
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(self._bytes)
        self._file.seek(self._bytes)

    @classmethod
    def check(cls, directory: Path, position: tuple[int, ...]) -> None:
        """Raise `CheckpointError` if the log does not hold what was written up to `position`."""
        size, checksum = position
        path = directory / cls.NAME
        content = path.read_bytes()[:size] if path.exists() else b""
        if len(content) != size or zlib.crc32(content) != checksum:
            raise CheckpointError(f"{path} has changed or lost rows since the checkpoint was written")

    @property
    def position(self) -> tuple[int, int]:
        return self._bytes, self._checksum

    @classmethod
    def set_aside(cls, directory: Path) -> Path | None:
        """Keep rows that no checkpoint goes on from, as `metrics.jsonl.1` (2, ...), before a run starts over."""
        path = directory / cls.NAME
        if not path.is_file() or not path.stat().st_size:
            return None
        number = 1 + sum(1 for _ in directory.glob(f"{cls.NAME}.*"))
        return path.rename(directory / f"{cls.NAME}.{number}")

    def append(self, row: dict[str, Any]) -> None:
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        self._file.write(line)
        self._file.flush()
        self._bytes += len(line)
        self._checksum = zlib.crc32(line, self._checksum)

    def sync(self) -> None:
        """Force the rows to disk, before a checkpoint says that they are there."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
