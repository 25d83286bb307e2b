"""One process per run: a lock file that says who, and is touched while they work.

A lock is stale when its process is known to be dead (same machine, same process numbers), or when it has not been
touched for a minute. Ages are measured by the file system's own clock, so that machines need not agree on the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from lop_sweeps.errors import ClaimLost
from lop_sweeps.regular_file import read_bytes

STALE_AFTER = 60.0  # seconds
HEARTBEAT = 2.0  # seconds


class Claim:
    """The right to run one run; `take` it, check `held` before writing, `release` it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "lock"
        self.token = uuid.uuid4().hex

    def take(self) -> bool:
        """Try to become the owner; False if a living process is."""
        for _ in range(3):  # a stale lock may be removed by somebody else between two of these lines
            try:
                self._make()
            except FileExistsError:
                if is_alive(self.path):
                    return False
                self._remove_stale()
                continue
            return True
        return False

    def _make(self) -> None:
        """The lock with its content, at one moment: an empty one would be in everybody's way for a minute."""
        content = json.dumps({"token": self.token, **_myself()})
        whole = self.path.with_name(f"lock.{self.token}")
        try:
            whole.write_text(content)
            try:
                os.link(whole, self.path)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                self._make_in_place(content)
        finally:
            with contextlib.suppress(OSError):
                whole.unlink()

    def _make_in_place(self, content: str) -> None:
        descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
        except OSError:
            with contextlib.suppress(OSError):
                self.path.unlink()
            raise

    def _remove_stale(self) -> None:
        """Move the stale lock aside; of several that try, one succeeds, and a fresh lock is never touched."""
        aside = self.path.with_name(f"lock.stale.{self.token}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, aside)
            if is_alive(aside):  # somebody took the claim between our look and the rename: give it back
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self.path)
            aside.unlink()

    def held(self) -> bool:
        """Whether the lock is there and ours. Raises OSError if that cannot be read, which is no loss of the claim."""
        try:
            content = read_bytes(self.path)
        except FileNotFoundError:
            return False
        return _owner(content).get("token") == self.token

    def is_lost(self) -> bool:
        """Whether the lock is known not to be ours any more; what cannot be read is no loss."""
        try:
            return not self.held()
        except OSError:
            return False

    def beat(self) -> None:
        with contextlib.suppress(OSError):  # a lost claim is noticed by `check_held`
            if self.held():
                os.utime(self.path)

    def release(self) -> None:
        with contextlib.suppress(OSError):  # it is stale soon enough
            if self.held():
                self.path.unlink(missing_ok=True)


def read(lock: Path) -> dict[str, Any]:
    """Who holds a lock; empty if nobody does or the file is damaged."""
    try:
        return _owner(read_bytes(lock))
    except OSError:
        return {}


def _owner(content: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def is_nobodys(lock: Path) -> bool:
    """Whether there is a lock that names no owner: what is left of one that could not be written."""
    return lock.exists() and "token" not in read(lock)


def is_alive(lock: Path) -> bool:
    """Whether a lock's owner is at work, as far as anybody can tell from here."""
    try:
        touched = lock.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return False
    owner = read(lock)
    here = namespace()
    if owner.get("namespace", here) == here and owner.get("host") == socket.gethostname():
        try:
            process = psutil.Process(int(owner["pid"]))
            if abs(process.create_time() - float(owner["started"])) < 2.0:
                return process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
            pass  # it has ended, or that is no lock of ours
        if "namespace" in owner:
            return False
    return _file_system_time(lock.parent) - touched < STALE_AFTER


@lru_cache(maxsize=1)
def namespace() -> str:
    """What process numbers mean here: the machine since it was started and, in a container, the container.

    Containers can have one host name and different processes of one number. Empty where there is no such thing.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _file_system_time(directory: Path) -> float:
    probe = directory / f"clock.{uuid.uuid4().hex}"
    try:
        probe.touch()
        touched = probe.stat().st_mtime
        probe.unlink(missing_ok=True)
    except OSError:  # somebody else's sweep, which may only be read
        return time.time()
    return touched


def _myself() -> dict[str, Any]:
    process = psutil.Process()
    job = os.environ.get("SLURM_JOB_ID")
    place = {"host": socket.gethostname(), "namespace": namespace()}
    return {**place, "pid": process.pid, "started": process.create_time(), "job": job}


class Heartbeat:
    """Touches the locks of a pack in the background, and calls `also` each time."""

    def __init__(self, claims: Sequence[Claim], also: Callable[[], None]) -> None:
        self._claims, self._also = claims, also
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            for claim in self._claims:
                claim.beat()
            self._also()


def check_held(claims: Sequence[Claim]) -> None:
    for claim in claims:
        if not claim.held():
            raise ClaimLost(f"another process has taken over {claim.path.parent.name}, or its lock is gone")
