"""Processes that take turns at a folder, which may be shared: what another user has left there is in nobody's way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

EVERYBODY = 0o666  # whatever the umask: a lock that only one user can open shuts out the others for ever


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, once it is free. Raises `OSError` where no lock can be had."""
    lock = acquire(path)
    try:
        yield
    finally:
        lock.release()


def acquire(path: Path, *, blocking: bool = True) -> FileLock:
    """The lock file `path`, held; or where that cannot be opened (it is a colleague's, made with a strict umask), one
    of this user's own beside it, which at least the user's processes share: what they write is moved into place whole.

    Raises `OSError`, or `filelock.Timeout` if it is not free and `blocking` is false.
    """
    try:
        return _held(path, blocking)
    except Timeout:  # which is an OSError, too
        raise
    except OSError:
        return _held(own(path), blocking)


def own(path: Path) -> Path:
    """A name beside `path` that no other user takes."""
    return path.with_name(f"{path.name}-{os.getuid()}")


def _held(path: Path, blocking: bool) -> FileLock:
    lock = FileLock(path, mode=EVERYBODY, blocking=blocking)
    lock.acquire()
    return lock
