"""Reading a file that somebody else may have put there: never waits, never reads without end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

SMALL = 1 << 26  # bytes: nothing that a run keeps beside its log and checkpoints has more
KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class NotRegular(OSError):
    """It is no file that can be read to its end: a pipe, a device, a folder, or larger than it may be."""


def open_regular(path: Path | str, limit: int) -> BinaryIO:
    """A regular file of at most `limit` bytes, open for reading, links followed.

    Raises `OSError`, whose text need not name the file.
    """
    return open(_open(path, limit), "rb")


def read_bytes(path: Path | str, limit: int = SMALL) -> bytes:
    """The content of such a file. Raises `OSError` as `open_regular` does.

    Without a file object, which takes four times as long: `lop-status` reads four files of ten thousand runs.
    """
    descriptor = _open(path, limit)
    try:
        content = b""
        while more := os.read(descriptor, 2**20):  # it may grow, and a file of /proc has no size
            content += more
            if len(content) > limit:
                raise NotRegular(f"has more than {limit:,} bytes, which is all that is read")
        return content
    finally:
        os.close(descriptor)


def _open(path: Path | str, limit: int) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
    status = os.fstat(descriptor)
    kind, size = stat.S_IFMT(status.st_mode), status.st_size
    if kind == stat.S_IFREG and size <= limit:
        return descriptor
    os.close(descriptor)
    if kind != stat.S_IFREG:
        raise NotRegular(f"is {KINDS.get(kind, 'a device')}, not a regular file")
    raise NotRegular(f"has {size:,} bytes; at most {limit:,} are read")  # also if it is a hole, of no size on the disk
