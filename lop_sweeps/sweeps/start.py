"""Where a run begins that goes on from another run's network: `start=RUN@TASK`.

RUN is a run's folder, or its name within the sweep; or the beginning of such a name: `backprop-seed3`, or `backprop`,
which is the run of the same seed. Of several it is the one that has kept the network, and whose configuration is that
of the run but for the algorithm. Imports no torch: figures read this, too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lop_sweeps.errors import ConfigError
from lop_sweeps.home import at_home
from lop_sweeps.sweeps.run_files import NAMED, holds_a_run, read_identity
from lop_sweeps.training.checkpoint_file import CHECKPOINT, position_of, snapshot_file

FORM = (
    "must be RUN@TASK: a run, by its folder or its name within the sweep, and a task before which its network was kept "
    "(checkpoint.keep), such as backprop-seed0-0123456789ab@100, or backprop@100 for the run of the same seed"
)


@dataclass(frozen=True)
class Start:
    """A parent's folder, and the task before which its network is taken.

    keeps_optimizer: whether the optimiser goes on, too, or begins afresh.
    """

    folder: Path
    task: int
    keeps_optimizer: bool = False

    @staticmethod
    def of(config: Mapping[str, Any]) -> Start | None:
        """That of a resolved configuration; None for a run that begins with a network of its own."""
        text = config.get("start")
        if text in (None, ""):
            return None
        run, task = _split(text)
        return Start(Path(run), task, config.get("start_optimizer") == "kept")

    @property
    def name(self) -> str:
        return self.folder.name

    def science(self, *, shape_only: bool = False) -> dict[str, Any]:
        """Its part of a run's identity. shape_only: without what runs of one pack may differ in."""
        parent = {} if shape_only else {"run": self.name}
        return {**parent, "task": self.task, **({"optimizer": "kept"} if self.keeps_optimizer else {})}


def located(text: Any, sweep: Path, seed: Any, science: Callable[[], Mapping[str, Any]]) -> str | None:
    """What `start` is stored as: the parent's absolute folder, and the task.

    sweep: the folder of the run's sweep. science: gives its own identity, without a parent. A parent that is named in
    full need not be there any more. Raises `ConfigError`.
    """
    if text in (None, ""):
        return None
    run, task = _split(text)
    path = Path(at_home("start", run))
    place, name = (sweep if len(path.parts) == 1 else path.parent), path.name
    folder = place / name
    if not NAMED.search(name) and not holds_a_run(folder):
        folder = _begins_with(name, place, seed, task, text, science)
    return f"{os.path.abspath(folder)}@{task}"


def _split(text: Any) -> tuple[str, int]:
    run, mark, task = str(text).rpartition("@")
    if not isinstance(text, str) or not mark or not run or not (task.isascii() and task.isdecimal()):
        raise ConfigError("start", text, FORM)
    return run, int(task)


def _begins_with(
    name: str, place: Path, seed: Any, task: int, text: str, science: Callable[[], Mapping[str, Any]]
) -> Path:
    """The one run in `place` of this name, whose end is left out; runs that begin at `task` themselves are none."""
    whole = name if re.search(r"-seed\d+$", name) else f"{name}-seed{seed}"
    pattern = re.compile(rf"{re.escape(whole)}-[0-9a-f]{{12}}")
    try:
        names = sorted(entry.name for entry in os.scandir(place) if pattern.fullmatch(entry.name))
    except OSError:
        names = []
    found = {one: of for one in names if _begins_before(task, of := _science(place / one))}
    if len(found) > 1:
        kept = {one: of for one, of in found.items() if has_network(place / one, task)}
        alike = {one: of for one, of in kept.items() if _settings(of) == _settings(science())}
        found = alike or kept or found
    if len(found) == 1:
        return place / next(iter(found))
    if found:
        raise ConfigError("start", text, f"is one of {len(found)} runs, so name it in full: {', '.join(found)}")
    raise ConfigError("start", text, f"there is no run {whole}-... in {place}; it {FORM}")


def has_network(folder: Path, task: int) -> bool:
    """Whether a run has kept its network from before a task, or stands there."""
    return snapshot_file(folder, task).exists() or position_of(folder / CHECKPOINT) == (task, 0)


def _science(folder: Path) -> Mapping[str, Any]:
    """What a run records of itself; nothing if that cannot be read, which is refused when the run is looked at."""
    try:
        science = read_identity(folder)["science"]
    except (OSError, ValueError, RecursionError):
        return {}
    return science if isinstance(science, Mapping) else {}


def _settings(science: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps({key: of for key, of in science.items() if key not in ("algorithm", "start")}))


def _begins_before(task: int, science: Mapping[str, Any]) -> bool:
    """Whether a run has a task in front of this one: children of a run often have the beginning of its name."""
    start = science.get("start")
    return not isinstance(start, Mapping) or not isinstance(start.get("task"), int) or start["task"] < task
