"""Reading a file that somebody else may have put there: never waits, never reads without end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class NotRegular(OSError):
    """It is no file that can be read to its end: a pipe, a device, a folder, or larger than it may be."""


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes, links followed.

    Raises `OSError`, whose text does not name the file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegular(f"is {KINDS.get(stat.S_IFMT(status.st_mode), 'a device')}, not a regular file")
        if status.st_size > limit:  # also of a sparse file, which takes no space on the disk
            raise NotRegular(f"has {status.st_size:,} bytes; at most {limit:,} are read")
        content = stream.read(limit + 1)  # it may grow, and a file of /proc has no size
    if len(content) > limit:
        raise NotRegular(f"has more than {limit:,} bytes, which is all that is read")
    return content
