"""Compiled once per machine: numba's `njit`, with what it has compiled kept on disk, for processes that start together.

Numba numbers a function's files: two processes that compile it at the same moment, for two types, take the same number,
and the index may then say that the one's code is the other's. Here a file is named for what it holds.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as nb
from numba.core.caching import IndexDataCacheFile

from lop_sweeps import compiled_code


def njit(**options: Any) -> Callable[[Any], Any]:
    """As numba's, with `cache=True` where it can be (`compiled_code.CACHE`)."""

    def compile_and_keep(function: Any) -> Any:
        dispatcher = nb.njit(cache=compiled_code.CACHE, **options)(function)
        cache = getattr(dispatcher, "_cache", None)  # none with NUMBA_DISABLE_JIT
        if isinstance(files := getattr(cache, "_cache_file", None), IndexDataCacheFile):
            files.__class__ = NamedForContent
        return dispatcher

    return compile_and_keep


FORMS = 5  # of one signature that are kept: a closure's key differs between a command, its workers and a job


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
    """Whether two keys are of one signature and machine: what differs is the text, or how a closure is written down."""
    return key != other and isinstance(key, tuple) and isinstance(other, tuple) and key[:2] == other[:2]
