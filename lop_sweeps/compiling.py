"""Compiled once per machine: numba's `njit`, with what it has compiled kept on disk, for processes that start together.

Numba numbers a function's files: two processes that compile it at the same moment, for two types, take the same number,
and the index may then say that the one's code is the other's. Here a file is named for what it holds. And numba knows a
closure by its pickled contents: a compiled function among them is pickled with a name that each process draws anew, so
that every process would compile what calls it (four seconds for the training loop). Here it is known by its text.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numba as nb
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps

from lop_sweeps import compiled_code


def njit(**options: Any) -> Callable[[Any], Any]:
    """As numba's, with `cache=True` where it can be (`compiled_code.CACHE`), and `fastmath=False` unless it is given.

    Left out, numba takes the `fastmath` of whoever calls first, and keeps that for all: what a function computes would
    depend, in its last digit, on what this machine has compiled before.
    """

    def compile_and_keep(function: Any) -> Any:
        dispatcher = nb.njit(cache=compiled_code.CACHE, **{"fastmath": False, **options})(function)
        cache = getattr(dispatcher, "_cache", None)  # none with NUMBA_DISABLE_JIT
        if isinstance(cache, FunctionCache) and isinstance(cache._cache_file, IndexDataCacheFile):
            cache.__class__, cache._cache_file.__class__ = KnownByText, NamedForContent
        return dispatcher

    return compile_and_keep


@contextlib.contextmanager
def one_at_a_time(function: Any, patience: float = 180.0) -> Iterator[None]:
    """Of processes and machines that keep compiled code in one place one compiles; the others wait, and find it there.

    function: compiled by `njit`; its place is meant. Nobody waits longer than `patience` seconds, nor where files have
    no locks: then a function is compiled more often than it had to be, which does no harm.
    """
    folder = getattr(getattr(function, "_cache", None), "cache_path", None)
    with contextlib.ExitStack() as stack:
        if folder is not None:
            with contextlib.suppress(OSError):
                Path(folder).mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(open(Path(folder) / "compiling.lock", "w"))
                until = time.monotonic() + patience
                while not _locked(file) and time.monotonic() < until:
                    time.sleep(0.2)
        yield


def _locked(file: IO[str]) -> bool:
    """Whether the file is now locked by this process, until it is closed. Raises OSError where none can be."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class KnownByText(FunctionCache):
    """What was compiled of a function, by signature, machine, and the text of it and of those in its closure."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), hashlib.sha256(_text_of(self._py_func)).hexdigest()


def _text_of(function: Any) -> bytes:
    parts = [function.__qualname__.encode(), function.__code__.co_code]
    for cell in function.__closure__ or ():
        held = cell.cell_contents
        if text := getattr(held, "text", None):  # an intrinsic's, which would be pickled by a name of the process
            parts.append(str(text).encode())
        else:
            parts.append(_text_of(held.py_func) if isinstance(held, Dispatcher) else dumps(held))
    return repr(parts).encode()


FORMS = 5  # of one signature that are kept: closures of the same text may hold different things


class NamedForContent(IndexDataCacheFile):
    """A function's index and files, each named by the signature, machine, closure and source that it was made from.

    What was made from an earlier source, and all but the last few closures, is removed: code snapshots for SLURM carry
    these files.
    """

    def save(self, key: Any, data: Any) -> None:
        """The file comes before the index that names it; of two at once, an index may lose a line, not gain one."""
        overloads = self._load_index()
        name = self._name_for(key)
        self._save_data(name, data)
        alike = [other for other in overloads if _alike(key, other)]  # in the order in which they were made
        overloads = {other: file for other, file in overloads.items() if other not in alike[:-FORMS]}
        self._save_index({**overloads, key: name})
        self._remove_all_but({*overloads.values(), name})

    def _name_for(self, key: Any) -> str:
        digest = hashlib.sha256(repr((self._source_stamp, key)).encode()).hexdigest()
        return str(self._data_name_pattern.format(number=int(digest[:12], 16)))

    def _remove_all_but(self, names: set[str]) -> None:
        """What is a minute old may be of a process that has not written its index yet."""
        base = glob.escape(self._data_name_pattern.format(number=0).removesuffix(".0.nbc"))
        anywhere = re.sub(r"-\d+\.py(?=\d+$)", "-*.py", base)  # on whichever line the function was
        for path in Path(self._cache_path).glob(f"{anywhere}.*.nbc"):
            with contextlib.suppress(OSError):  # another process removes it, too
                if path.name not in names and path.stat().st_mtime < time.time() - 60:
                    path.unlink()


def _alike(key: Any, other: Any) -> bool:
    """Whether two keys are of one signature and machine: what differs is the text."""
    return key != other and isinstance(key, tuple) and isinstance(other, tuple) and key[:2] == other[:2]
