"""A copy of the code at the moment of a submission: what queued jobs run, whatever is edited afterwards.

Of the user's modules it takes what Python can import, and nothing else that lies beside it: no `.env`, no keys, no
data, no results, and nothing behind a link, which may lead to a large disk or back to where it is.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

from lop_sweeps.errors import LopError
from lop_sweeps.own_modules import find_here
from lop_sweeps.sweeps import provenance

log = logging.getLogger("lop")

PARTS = ("lop_sweeps", "hydra_plugins.lop_sweeps", "lop_sweeps.conf", "lop_sweeps.analysis")
CODE = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
# What Numba has compiled goes along, since it knows its source by its content: jobs need not compile.
OURS = (*CODE, ".yaml", ".typed", ".nbi", ".nbc")
MAX_BYTES, MAX_FILES = 64 << 20, 10_000  # of one module
FACTS = "provenance.json"


def take(folder: Path, trusted: Sequence[str]) -> Path:
    """Copy this package, and the modules outside it that the runs name, to `folder`; to be put on PYTHONPATH.

    trusted: module prefixes that the user's configurations may name; what is installed among them stays where it is,
    as PyTorch does. Beside the code lie its commit and diff. Raises `LopError` for a module that is not there, or is
    too large to be one.
    """
    for module in PARTS:
        for place in _places(module):
            _copy(module, place, folder, OURS)
    find_here(trusted)
    for module in (name.rstrip(".") for name in trusted):
        for place in (place for place in _places(module) if not _is_installed(place)):
            _copy(module, place, folder, CODE)
            _copy_packages_around(module, folder)
    facts = provenance.collect()
    (folder / FACTS).write_text(json.dumps({key: facts[key] for key in ("commit", "diff")}, indent=1) + "\n")
    return folder


def _places(module: str) -> list[Path]:
    """The file of a module, or the folders of a package; none for one that is built into Python."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise LopError(f"trusted: {module} cannot be copied: {error}") from error
    if spec is None:
        raise LopError(f"trusted: there is no module {module} to copy")
    if spec.submodule_search_locations is not None:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin else []


def _is_installed(place: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(place.parts):
        return True
    return place.is_relative_to(sysconfig.get_path("stdlib"))


def _copy(module: str, place: Path, folder: Path, suffixes: tuple[str, ...]) -> None:
    target = folder / Path(*module.split("."))
    if not place.is_dir():
        _copy_file(place, target.with_name(target.name + "".join(place.suffixes)))
        return
    count = size = 0
    for file in _files(place, suffixes):
        count, size = count + 1, size + file.stat().st_size
        if count > MAX_FILES or size > MAX_BYTES:
            raise LopError(
                f"trusted: {place} has more than {MAX_FILES:,} files or {MAX_BYTES >> 20} MB of code: "
                f"name a part of {module}, or install it"
            )
        _copy_file(file, target / file.relative_to(place))


def _copy_packages_around(module: str, folder: Path) -> None:
    """Without its `__init__.py` a package in the copy would not be preferred to the one it was copied from."""
    while module := module.rpartition(".")[0]:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.has_location and spec.origin and not _is_installed(Path(spec.origin)):
            _copy_file(Path(spec.origin), folder.joinpath(*module.split("."), "__init__.py"))


def _files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The regular files of these kinds; not what is hidden, linked, or another environment of Python's."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                if entry.name.endswith(CODE):
                    log.warning("%s is a link, and not copied for the jobs", entry.path)
            elif entry.is_dir():
                if not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                    yield from _files(Path(entry.path), suffixes)
            elif entry.is_file() and entry.name.endswith(suffixes):
                yield Path(entry.path)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
