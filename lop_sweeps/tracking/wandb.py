"""Weights & Biases: which project, and how one run of ours becomes one run there.

Exactness rests on two facts. A W&B run has an id that we choose, so a run that goes on after a kill is the same one.
And its rows have steps: a row's step is its number in `metrics.jsonl`, the server says how many it has, and the client
drops a step that is not new. So nothing arrives twice, and what has not arrived is sent again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.regular_file import read_bytes
from lop_sweeps.sweeps.diagnostics_file import read
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.tracking.rows import DESCRIBED, encode

MODES = ("online", "offline", "disabled")
LOCAL = (
    "paths",
    "checkpoint",
    "tracking",
    "trusted",
    "start",
)  # what a configuration says about this machine, not the run
PROVENANCE = ("lop_sweeps", "commit", "python", "packages", "machine")  # without the diff: it may hold anything
FIGURES = "figures"  # job type of what lop-figures uploads
# What the client or the server would refuse after the training: more characters than these, and some at all.
LONGEST = 128
IN_ADDRESSES = "/\\#?%:"
NAMES = {
    "project": (LONGEST, IN_ADDRESSES),
    "entity": (LONGEST, IN_ADDRESSES),
    "group": (LONGEST, ""),
    "name": (LONGEST, ""),
    "job_type": (64, ""),
}
TAG = 64
INIT_SECONDS = 30.0  # that a server may take to answer
PROBE_SECONDS = 5.0  # the same, when it is asked whether it is there
FINISHED_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0)  # pauses before each look whether everything has arrived


class Unavailable(Exception):
    """A run cannot be sent now; the message says why, in words for the user."""


class Away(Unavailable):
    """No run can be sent now."""


class NoAccount(Away):
    """Nor will it be, before the user does something."""


@dataclass(frozen=True)
class Wandb:
    """Where runs are mirrored; the options of conf/tracking/wandb.yaml."""

    project: str = "lop-sweeps"
    entity: str | None = None
    mode: str = "online"
    group: str | None = None
    job_type: str = "train"
    name: str | None = None
    tags: Sequence[str] = ()
    notes: str | None = None
    patience: float = 60.0

    def __post_init__(self) -> None:
        checks.choice("mode", self.mode, MODES)
        checks.number("patience", self.patience, 0.0)
        for key, (longest, refused) in NAMES.items():
            if getattr(self, key) is not None or key in ("project", "job_type"):
                check_name(key, getattr(self, key), longest, refused)
        if self.notes is not None:
            checks.text("notes", self.notes)
        if self.job_type == FIGURES:
            raise ConfigError("job_type", FIGURES, "is the job type of uploaded figures; take another")
        listed = isinstance(self.tags, Sequence) and not isinstance(self.tags, str)
        if not listed or not all(isinstance(tag, str) and 0 < len(tag) <= TAG for tag in self.tags):
            raise ConfigError("tags", self.tags, f"must be a list of texts of at most {TAG} characters")

    @staticmethod
    def of(config: Mapping[str, Any]) -> Wandb | None:
        """What a stored configuration says; None if the run is not mirrored."""
        node = config.get("tracking")
        return Wandb(**{key: value for key, value in node.items() if key != "_target_"}) if node else None

    @staticmethod
    def of_environment() -> Wandb:
        """For sweeps that were run without tracking: WANDB_PROJECT and WANDB_ENTITY, as in conf/tracking/wandb.yaml."""
        return Wandb(project=os.environ.get("WANDB_PROJECT") or "lop-sweeps", entity=os.environ.get("WANDB_ENTITY"))

    def check_sweep(self, sweep: str) -> None:
        """Raise `ConfigError` if the sweep's name, which is the group where no other is given, cannot be one."""
        if self.group is None and len(sweep) > LONGEST:
            allowed = f"is the group of its runs, which may have {LONGEST} characters; give a shorter one"
            raise ConfigError("tracking.group", sweep, allowed)

    def place(self) -> dict[str, str | None]:
        """What tells one place that runs are sent to from another."""
        server = os.environ.get("WANDB_BASE_URL")
        return {"server": server, "project": self.project, "entity": self.entity, "mode": self.mode}

    def check_login(self) -> None:
        """Raise `Away` unless the package is there and, online, a server that knows the key; asks nobody for one."""
        try:
            import wandb
        except ImportError as error:
            raise NoAccount("the package wandb is not installed") from error
        if self.mode != "online":
            return
        try:
            wandb.setup(wandb.Settings(mode="online", silent=True))  # whatever WANDB_MODE says
            known = wandb.login(prompt=False, verify=False)
            if known:
                wandb.Api(timeout=round(PROBE_SECONDS))  # of its own accord it asks the server about the key
        except Exception as error:  # requests', wandb's own: of many kinds
            text = _words(error)
            raise Away("the server does not answer" if "did not respond in time" in text else text) from error
        if not known:
            raise NoAccount("not logged in: put WANDB_API_KEY into .env, or run `wandb login`")

    def run_id(self, config: Mapping[str, Any]) -> str:
        """Ours, and four letters for the sweep: the same run in two sweeps is in two groups, so it is there twice."""
        name = f"{config['run']}-{hashlib.sha256(str(config['sweep']).encode()).hexdigest()[:4]}"
        return name[-LONGEST:]  # the end tells it from others

    def open(self, run: RunDirectory, config: Mapping[str, Any], earlier: Mapping[str, Any]) -> WandbRun:
        """The W&B run of this run: a new one, or the one that is there. Raises `Unavailable`.

        earlier: what mirror.json says.
        """
        # Also because a `wandb.init` that has run out of time keeps the run's id: the next one would be refused.
        self.check_login()
        import wandb

        first = self._first_row_offline(run, config, earlier) if self.mode == "offline" else None
        if self.mode == "online":
            _delete(self._copies(run, config, "run-"))
        try:
            made = wandb.init(
                entity=self.entity,
                project=self.project,
                id=self.run_id(config),
                group=self.group or str(config["sweep"]),
                job_type=self.job_type,
                name=self.name or run.name[-LONGEST:],
                tags=sorted({*self.tags, *_tags(config)}),
                notes=self.notes,
                config=public(config, run),
                allow_val_change=True,
                dir=str(run.path.parent),
                mode=self.mode,  # type: ignore[arg-type]  # checked above
                resume="allow",
                reinit="create_new",
                settings=quiet(),
            )
        except Exception as error:  # wandb's own, of many kinds
            raise Unavailable(_words(error)) from error
        return WandbRun(made, run, config, self, first)

    def _copies(self, run: RunDirectory, config: Mapping[str, Any], prefix: str) -> list[Path]:
        """The client's own copies of what earlier sessions sent, one folder each."""
        return list((run.path.parent / "wandb").glob(f"{prefix}*-{self.run_id(config)}"))

    def _first_row_offline(self, run: RunDirectory, config: Mapping[str, Any], earlier: Mapping[str, Any]) -> int:
        """The first row that the files for `wandb sync` lack; files that are not synced are deleted, and written anew.

        `wandb sync` puts the rows of one file behind those of the other, whatever their steps.
        """
        copies = self._copies(run, config, "offline-run-")
        synced = {copy.name for copy in copies if any(copy.glob("*.synced"))}
        _delete([copy for copy in copies if copy.name not in synced])
        online = earlier.get("mode") == "online"
        if not (online or synced) or any(earlier.get(k) != v for k, v in self.place().items() if k != "mode"):
            return 0
        whole = earlier.get("state") and (online or earlier.get("folder") in synced)
        return int(earlier.get("rows" if whole else "first") or 0)


class WandbRun:
    """One open W&B run. next_row: number of the first row that it does not have."""

    def __init__(
        self, run: Any, directory: RunDirectory, config: Mapping[str, Any], tracking: Wandb, first_row: int | None
    ) -> None:
        self._run, self._online, self._directory = run, tracking.mode == "online", directory
        self.next_row = int(run.starting_step) if first_row is None else first_row
        self.url, project = str(run.url or ""), str(run.project_url or "")
        self.group_url = f"{project}/groups/{quote(str(run.group))}" if project else ""
        self.folder = str(Path(run.dir).parent)
        layers = config.get("layers") or {}
        control = config["benchmark"].get("protocol") == "control"
        self._weights = layers.get("weights") or ()
        self._units = layers.get("units") or ()
        self._policy_layers = len(self._units) // 2 if control else 0
        self._described: dict[str, Any] | None = None
        axis = "examples" if control else "task"
        for name in ("task", "examples"):
            run.define_metric(name, hidden=True)
        run.define_metric("*", step_metric=axis)
        run.define_metric("layers/*", step_metric=axis, hidden=True)

    def send(self, number: int, row: Mapping[str, Any]) -> None:
        """Hand over row `number` of the log, unless it is there; never waits for the network."""
        if number >= self.next_row:
            self._run.log(self._encoded(row), step=number, commit=True)
            self.next_row = number + 1

    def _encoded(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return encode(row, self._weights, self._policy_layers, self._units, self._values())

    def _values(self) -> dict[str, Any]:
        """What the run says of its diagnostics, of which W&B is told those that are not known to everybody."""
        if self._described is None:  # there since before the first row of this session
            self._described = dict(read(self._directory).get("values") or {})
            own = {name: value for name, value in self._described.items() if not value.get("standard")}
            if own:
                self._run.config.update({DESCRIBED: own}, allow_val_change=True)
        return self._described

    def finish(self, state: str, summary: Mapping[str, Any]) -> None:
        """Wait until everything has arrived. Raises `Unavailable` if it has not.

        state: done and diverged are finished there; failed is failed; waiting (stopped; to be gone on with) preempted.
        """
        self._run.summary.update({"state": state, **summary})
        if state == "waiting":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if state in ("done", "diverged") else 1)
        if self._online:
            self._check_arrival()
            shutil.rmtree(self.folder, ignore_errors=True)  # the log is the truth, and this a copy of it

    def _check_arrival(self) -> None:
        """The client drops rows without a word where the server refuses them."""
        import wandb

        path = f"{self._run.entity}/{self._run.project}/{self._run.id}"
        arrived = -1
        for pause in FINISHED_SECONDS:
            time.sleep(pause)
            try:
                arrived = int(wandb.Api(timeout=30).run(path).lastHistoryStep)
            except Exception as error:  # requests', wandb's own: whatever it is, this look told nothing
                problem = f": {error}"
            else:
                problem = f": it has {arrived + 1} of {self.next_row} rows"
                if arrived + 1 >= self.next_row:
                    return
        raise Unavailable(f"the server has not taken everything of {self._run.id}{problem}")


def check_name(key: str, value: Any, longest: int, refused: str) -> None:
    """Raise `ConfigError` for what W&B would not take as a name."""
    text = checks.text(key, value)
    if len(text) > longest:
        raise ConfigError(key, text, f"has {len(text)} characters; Weights & Biases takes at most {longest}")
    if text != text.strip() or not text.isprintable():
        raise ConfigError(key, text, "must not begin or end with a space, or have line breaks or the like")
    if found := [character for character in refused if character in text]:
        known = " (give user or team as tracking.entity)" if key == "project" and found == ["/"] else ""
        raise ConfigError(key, text, f"must not have {' '.join(found)} in it{known}; nor any of {' '.join(refused)}")


def quiet() -> Any:
    """Settings of the client: nothing on the screen, nothing about this machine but what provenance.json says."""
    import wandb

    return wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_job_creation=True,
        host="",
        program="",
        save_code=False,
        init_timeout=INIT_SECONDS,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


def public(config: Mapping[str, Any], run: RunDirectory) -> dict[str, Any]:
    """What W&B is told of a run's configuration and origin."""
    shown = {key: value for key, value in config.items() if key not in LOCAL}
    try:
        origin = json.loads(read_bytes(run.path / "provenance.json"))
    except (OSError, ValueError):
        origin = {}
    return {**shown, "provenance": {key: origin.get(key) for key in PROVENANCE}}


def _tags(config: Mapping[str, Any]) -> set[str]:
    choices = config.get("choices") or {}
    names = [choices.get(group) for group in ("benchmark", "network", "optimizer")]
    names += list(choices.get("algorithm") or ["backprop"])
    return {str(name)[:TAG] for name in names if name}


def _delete(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
