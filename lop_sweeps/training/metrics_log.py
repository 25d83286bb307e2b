"""The append-only log of a run: one JSON object per line. It holds nothing measured by a clock."""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lop_sweeps.errors import CheckpointError, LogChanged


class MetricsLog:
    """Appends rows to `metrics.jsonl`, and knows how far the file is: (bytes, checksum).

    `position` goes into each checkpoint; opening the log at a position cuts off what was written after it. `record` is
    what status.json says of the log. `on_row` is told each row that is appended, once it is in the file.
    """

    NAME = "metrics.jsonl"

    def __init__(self, directory: Path, position: tuple[int, int] = (0, 0)) -> None:
        """Open the log at `position`; raise `CheckpointError` if the file does not hold what was written up to it."""
        self.on_row: Callable[[dict[str, Any]], None] | None = None
        self._path = directory / self.NAME
        self._rows = self.check(directory, position)
        self._bytes, self._checksum = position
        if self._path.is_symlink():  # what it leads to would be cut off, too
            raise OSError(f"{self._path} is a link; rows are written to a file of the run's own")
        self._file = self._path.open("r+b" if self._path.exists() else "w+b")
        self._file.truncate(self._bytes)
        self._file.seek(self._bytes)

    @classmethod
    def check(cls, directory: Path, position: tuple[int, ...]) -> int:
        """The rows of the log up to `position`; raise `CheckpointError` if it does not hold what was written."""
        size, checksum = position
        path = directory / cls.NAME
        if os.path.lexists(path) and not path.is_file():  # a pipe, say, would be waited for
            raise OSError(f"{path} is not a file")
        content = path.read_bytes()[:size] if path.exists() else b""
        if len(content) != size or zlib.crc32(content) != checksum:
            raise CheckpointError(f"{path} has changed or lost rows since the checkpoint was written")
        return content.count(b"\n")

    @property
    def position(self) -> tuple[int, int]:
        return self._bytes, self._checksum

    @property
    def record(self) -> dict[str, int]:
        """How much of the log there is, and when it was last written."""
        written = os.fstat(self._file.fileno()).st_mtime_ns
        return {"rows": self._rows, "bytes": self._bytes, "crc32": self._checksum, "mtime_ns": written}

    @classmethod
    def set_aside(cls, directory: Path) -> Path | None:
        """Keep rows that no checkpoint goes on from, as `metrics.jsonl.1` (2, ...), before a run starts over."""
        path = directory / cls.NAME
        if not path.is_file() or not path.stat().st_size:
            return None
        free = next(n for n in itertools.count(1) if not os.path.lexists(directory / f"{cls.NAME}.{n}"))
        return path.rename(directory / f"{cls.NAME}.{free}")

    def append(self, row: dict[str, Any]) -> None:
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        self._file.write(line)
        self._file.flush()
        self._rows += 1
        self._bytes += len(line)
        self._checksum = zlib.crc32(line, self._checksum)
        if self.on_row is not None:
            self.on_row(row)

    def sync(self) -> None:
        """Force the rows to disk, before a checkpoint says that they are there, and see that they are.

        Raises `LogChanged` if somebody else has deleted, replaced or changed the file meanwhile.
        """
        os.fsync(self._file.fileno())
        ours = os.fstat(self._file.fileno())
        try:
            found = self._path.stat()
        except FileNotFoundError as error:
            raise LogChanged(f"{self._path} was deleted by somebody else while the run was trained") from error
        if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino):
            raise LogChanged(f"{self._path} was replaced by somebody else while the run was trained")
        if found.st_size != self._bytes or zlib.crc32(self._path.read_bytes()) != self._checksum:
            raise LogChanged(f"{self._path} was changed by somebody else while the run was trained")

    def close(self) -> None:
        self._file.close()
