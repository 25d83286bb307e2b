"""Reading a file that somebody else may have put there: never waits, never reads without end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class NotRegular(OSError):
    """It is no file that can be read to its end: a pipe, a device, a folder, or larger than it may be."""


def open_regular(path: Path, limit: int) -> BinaryIO:
    """A regular file of at most `limit` bytes, open for reading, links followed.

    Raises `OSError`, whose text need not name the file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
    status = os.fstat(descriptor)
    kind, size = stat.S_IFMT(status.st_mode), status.st_size
    if kind == stat.S_IFREG and size <= limit:
        return open(descriptor, "rb")
    os.close(descriptor)
    if kind != stat.S_IFREG:
        raise NotRegular(f"is {KINDS.get(kind, 'a device')}, not a regular file")
    raise NotRegular(f"has {size:,} bytes; at most {limit:,} are read")  # also if it is a hole, of no size on the disk


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of such a file. Raises `OSError` as `open_regular` does."""
    with open_regular(path, limit) as stream:
        content = stream.read(limit + 1)  # it may grow, and a file of /proc has no size
    if len(content) > limit:
        raise NotRegular(f"has more than {limit:,} bytes, which is all that is read")
    return content
