"""A copy of the code at the moment of a submission: what queued jobs run, whatever is edited afterwards."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from lop_sweeps.errors import LopError
from lop_sweeps.sweep import provenance

PARTS = ("lop_sweeps", "hydra_plugins.lop_sweeps", "lop_sweeps.conf", "lop_sweeps.analysis")
# What Numba has compiled goes along, since it knows its source by the time of its last change.
IGNORED = shutil.ignore_patterns("*.pyc", ".git", ".venv", "sweeps")
FACTS = "provenance.json"


def take(folder: Path, trusted: Sequence[str]) -> Path:
    """Copy this package, and the modules outside it that the runs name, to `folder`; to be put on PYTHONPATH.

    trusted: module prefixes that the user's configurations may name. Beside the code lie its commit and diff.
    """
    for module in (*PARTS, *trusted):
        _copy(module, folder)
    facts = provenance.collect()
    (folder / FACTS).write_text(json.dumps({key: facts[key] for key in ("commit", "diff")}, indent=1) + "\n")
    return folder


def _copy(module: str, folder: Path) -> None:
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise LopError(f"trusted: there is no module {module} to copy")
    if spec.submodule_search_locations is None:
        assert spec.origin is not None
        target = folder / Path(*module.split(".")).with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(spec.origin, target)
        return
    target = folder / Path(*module.split("."))
    for place in spec.submodule_search_locations:
        shutil.copytree(place, target, ignore=IGNORED, dirs_exist_ok=True)
