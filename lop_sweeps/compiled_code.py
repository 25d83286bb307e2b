"""Where numba keeps what it has compiled, so that it compiles once: decided before numba is imported.

Beside the source, or in the user's cache folder; where neither can be written (a container under an arbitrary user,
with an installation of root's), in a temporary folder of the user's own. numba alone gives up there, and nothing could
train. What lies in such a folder is run, so it must belong to this user, and be closed to all others.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
PREFIX = "lop-sweeps-compiled-"
CACHE = True  # what compiled functions pass on as `cache`; False where nothing can be written at all
NOTICE: str | None = None  # what the user should know


def prepare(
    environment: MutableMapping[str, str] = os.environ, package: Path = Path(__file__).parent, *, shared: bool = True
) -> None:
    """Set `NUMBA_CACHE_DIR` where it is needed. Each process decides anew: a job runs on another machine.

    shared: whether numba, if it is there already, and the following imports are told.
    """
    global CACHE, NOTICE
    if Path(environment.get(VARIABLE, "")).name.startswith(PREFIX):  # ours, of the process that started this one
        del environment[VARIABLE]
    places = (environment.get(VARIABLE), _users_folder(environment))
    if any(place and _can_be_written(Path(place)) for place in places) or all(
        _can_be_written(folder / "__pycache__") for folder in _folders(package)
    ):
        return
    folder = temporary_folder()
    if folder is not None:
        environment[VARIABLE] = str(folder)
    if shared:
        CACHE = folder is not None
        where = f"is kept in {folder}" if folder else "is not kept, and compiled anew each time"
        NOTICE = f"neither {package} nor the home folder can be written: compiled code {where}"
        if folder is not None and (numba := sys.modules.get("numba")):
            numba.config.CACHE_DIR = str(folder)


def temporary_folder() -> Path | None:
    """A folder of this user's, closed to others, the same every time if it can be; None if there is none."""
    for base in _bases():
        path = base / f"{PREFIX}{os.geteuid()}"
        try:
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            if _is_private(path):
                return path
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))  # somebody else was there first
        except OSError:
            continue
        atexit.register(_remove, path, os.getpid())
        return path
    return None


def _bases() -> Iterator[Path]:
    with contextlib.suppress(OSError):  # it tries several
        yield Path(tempfile.gettempdir())
    yield Path("/dev/shm")


def _is_private(path: Path) -> bool:
    status = path.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return ours and not status.st_mode & 0o077 and os.access(path, os.W_OK | os.X_OK)


def _remove(path: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)


def _users_folder(environment: MutableMapping[str, str]) -> str | None:
    """As numba finds it; None without a home."""
    home = os.path.expanduser("~")
    default = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    given = environment.get("XDG_CACHE_HOME") if sys.platform != "darwin" else None
    return os.path.join(given or os.path.expanduser(default), "numba") if given or home != "~" else None


def _folders(package: Path) -> Iterator[Path]:
    yield package
    with os.scandir(package) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_dir() and entry.name != "__pycache__")


def _can_be_written(folder: Path) -> bool:
    """Whether files can be made in a folder, which may have to be made first."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
