"""Is the folder of a run itself? What its files must agree on, whoever touched them; by the files alone.

| file          | must                                                                                           |
|---------------|------------------------------------------------------------------------------------------------|
| the folder    | have the name that is the hash of `identity.json`                                              |
| config.yaml   | have the bytes whose SHA-256 `identity.json` records, and state what it is the identity of      |
| status.json   | be readable, and name the run                                                                  |
| metrics.jsonl | begin with the rows, bytes and checksum that `status.json` records; of a finished run, be that |
| checkpoint.pt | name the run; of a finished run, have the recorded bytes and checksum; cover what the log has  |
| snapshots     | name the run and their task; of a finished run, have the recorded bytes and checksum           |

Whether it is also what today's code would train is another question (`identity.compare`).

Reading is not repeated: a log or checkpoint whose size and time are those that were recorded, or that an earlier check
noted in the sweep's folder, is taken as checked. Runs from before all this have their log's size and checksum in the
checkpoint, or its size in `status.json`; what is nowhere is *not recorded*, which is no fault.

Imports nothing that takes time: `lop-status` looks at ten thousand runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lop_sweeps.regular_file import read_bytes
from lop_sweeps.sweeps import keeping
from lop_sweeps.sweeps.notes import Notes
from lop_sweeps.sweeps.run_files import (
    CONFIG,
    FINAL,
    IDENTITY,
    LOG,
    NAMED,
    STATUS,
    first_task,
    has_checksum,
    read_identity,
    read_status,
    reason,
    sha256,
)
from lop_sweeps.sweeps.verdict import OTHERS, Verdict
from lop_sweeps.training.checkpoint_file import CHECKPOINT, PREVIOUS, facts_of, is_whole, name_of, owner_of

STATED = re.compile(rb"^(run|seed): *([\w.+-]+)\r?$", re.MULTILINE)


def look(folder: Path, notes: Notes | None = None, *, everything: bool = False) -> Verdict:
    """Is this folder the run that it says it is? everything: read each file, whatever its size and time say."""
    check = _Check(folder, notes, everything)
    check.identity()
    check.config()
    check.status()
    check.log()
    check.checkpoint()
    if everything:
        check.others()
    unrecorded = tuple(dict.fromkeys(check.unrecorded))
    found = Verdict(folder, check.problems, frozenset(check.unreadable), unrecorded, check.recorded, check.said)
    if LOG in found.problems and found.status.get("state") not in FINAL:
        # A process that goes on from an earlier checkpoint says so, and then cuts the log.
        now, _ = read_status(folder)
        if {**now, "updated": 0} != {**check.said, "updated": 0}:
            return look(folder, notes, everything=everything)
    return found


class _Check:
    """The questions about one folder, in order."""

    def __init__(self, folder: Path, notes: Notes | None, everything: bool) -> None:
        self.folder, self.notes, self.everything = folder, notes, everything
        self.name, self.base = name_of(folder), f"{folder}/"
        self.problems: dict[str, str] = {}
        self.unreadable: set[str] = set()
        self.unrecorded: list[str] = []
        self.recorded: dict[str, Any] | None = None
        self.said: dict[str, Any] = {}

    def identity(self) -> None:
        try:
            self.recorded = read_identity(self.folder)
        except FileNotFoundError:
            self.unrecorded.append("identity")
        except (OSError, ValueError, RecursionError) as error:
            self._cannot_read(IDENTITY, error)
        else:
            if self.recorded["name"] != self.name:
                self.problems[IDENTITY] = (
                    f"of another run, {self.recorded['name']} (was the folder renamed, or the file copied?)"
                )

    def config(self) -> None:
        try:
            content = read_bytes(self.base + CONFIG)
        except OSError as error:
            self._cannot_read(CONFIG, error)
            return
        if self.recorded is not None:
            if sha256(content) not in (self.recorded["sha256"], self.recorded.get("before")):
                self.problems[CONFIG] = "not as it was written (edited, or another run's?)"
                if not _is_configuration(content):
                    self.unreadable.add(CONFIG)
            elif CONFIG not in self.problems and (text := _states_another(content, self.recorded)):
                self.problems[CONFIG] = text
        elif not content.strip():
            self.problems[CONFIG] = "empty"
            self.unreadable.add(CONFIG)
        else:
            stated = {key.decode(): value.decode() for key, value in STATED.findall(content)}
            named = NAMED.search(self.name)
            if stated.get("run", self.name) != self.name:
                self.problems[CONFIG] = f"of another run, {stated['run']}"
            elif named and "seed" in stated and not _is_same(stated["seed"], named[1]):
                self.problems[CONFIG] = f"has seed {stated['seed']}, and the run {named[1]}"

    def status(self) -> None:
        self.said, problem = read_status(self.folder)
        if not self.said.get("run") and self.recorded is not None and not problem:
            # Whoever records an identity writes a status before the first row.
            problem = "missing, and there is a log" if _is_filled(self.base + LOG) else ""
        if problem:
            self.problems[STATUS] = problem
            self.unreadable.add(STATUS)
        record = self.said.get("log")
        if self.said["state"] not in FINAL or not isinstance(record, dict):
            return
        task, wanted = self.said.get("task"), self.said.get("num_tasks")
        done = task - first_task(self.recorded) if isinstance(task, int) else task
        if record.get("rows") != done:
            self.problems[STATUS] = f"counts {done} tasks and {record.get('rows')} rows"
        elif self.said["state"] == "done" and isinstance(task, int) and task < (wanted or 0):
            self.problems[STATUS] = f"says done after {task} of {wanted} tasks"

    def log(self) -> None:
        final = self.said["state"] in FINAL
        record = self.said.get("log")
        if isinstance(record, dict):
            size, crc = record.get("bytes"), record.get("crc32")
            time, source = record.get("mtime_ns"), "was recorded"
        else:
            size, crc, time, source = *self._by_checkpoint(), None, "its checkpoint says"
            final = final and self.said["state"] == "done"
            if size is None:
                size, source = self.said.get("durable") or None, "was saved"
                final = self.said["state"] in FINAL
        recorded = isinstance(size, int)
        if not isinstance(size, int):
            size, crc, final = 0, None, False
        try:
            facts = os.stat(self.base + LOG)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError("it is not a file")
        except FileNotFoundError:
            if size:
                self.problems[LOG] = f"missing, and had {size} bytes"
            return
        except OSError as error:
            self._cannot_read(LOG, error)
            return
        if facts.st_size and not (recorded and isinstance(crc, int)):
            self.unrecorded.append("checksum of the log" if recorded else "size and checksum of the log")
        if facts.st_size < size or (final and facts.st_size != size):
            self.problems[LOG] = f"has {facts.st_size} bytes, and {size} {'were saved' if size else source}"
        elif size and isinstance(crc, int):
            when = time if final else None
            self._compare(LOG, facts, size, crc, when, "not as it was written (edited, or another run's?)")

    def checkpoint(self) -> None:
        record, final = self.said.get("checkpoint"), self.said["state"] in FINAL
        try:
            facts = os.stat(self.base + CHECKPOINT)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError("it is not a file")
        except FileNotFoundError:
            if final and (self.folder / PREVIOUS).exists():
                self.problems[CHECKPOINT] = f"missing, and there is an earlier one ({PREVIOUS})"
            return
        except OSError as error:
            self._cannot_read(CHECKPOINT, error)
            return
        recorded = final and isinstance(record, dict) and isinstance(record.get("crc32"), int)
        if recorded and isinstance(record, dict):
            size, crc = record.get("bytes"), record["crc32"]
            if facts.st_size != size:
                self.problems[CHECKPOINT] = f"has {facts.st_size} bytes, and {size} were recorded"
            else:
                self._compare(CHECKPOINT, facts, facts.st_size, crc, record.get("mtime_ns"), "not as it was written")
        if CHECKPOINT not in self.problems and not self._is_new(CHECKPOINT, facts, [0]):
            return
        owner = owner_of(self.folder / CHECKPOINT)
        if owner and self.name not in owner:
            self.problems[CHECKPOINT] = f"of another run, {owner[0]}"
        elif self.everything and not is_whole(self.folder / CHECKPOINT):
            self.problems[CHECKPOINT] = "damaged"
        elif CHECKPOINT not in self.problems:
            self._note(CHECKPOINT, facts, [0])
            if self.everything and LOG not in self.problems:
                self._log_of_checkpoint()

    def _log_of_checkpoint(self) -> None:
        """Whoever edits the log and what `status.json` records of it has not the checkpoint to agree with it."""
        size, crc = self._by_checkpoint()
        record = self.said.get("log")
        if isinstance(record, dict) and (record.get("bytes"), record.get("crc32")) == (size, crc):
            return  # which it was compared with
        with contextlib.suppress(OSError):  # said where the log was looked at
            if size and not has_checksum(self.folder / LOG, size, crc):
                self.problems[LOG] = f"not what {CHECKPOINT} says of it (edited, or another run's?)"

    def others(self) -> None:
        """What no result hangs on."""
        self.problems |= keeping.problems(self.folder, self.name, self.said)
        if (previous := self.folder / PREVIOUS).exists():
            owner = owner_of(previous)
            if owner and self.name not in owner:
                self.problems[PREVIOUS] = f"of another run, {owner[0]}"
            elif not is_whole(previous):
                self.problems[PREVIOUS] = "damaged"
        for file in OTHERS[1:]:
            try:
                content = json.loads(read_bytes(self.base + file))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, RecursionError) as error:
                self._cannot_read(file, error)
                continue
            members = content.get("members", [self.name]) if isinstance(content, dict) else []
            if not isinstance(members, list) or self.name not in members:
                self.problems[file] = "not this run's"
            elif file == "pack.json" and not self._is_order(members):
                self.problems[file] = f"has its members in another order than {CHECKPOINT}, which changes rounding"
            elif content.get("run", self.name) != self.name:
                self.problems[file] = f"of another run, {content['run']}"

    def _is_order(self, members: list[Any]) -> bool:
        """Whether the members that the newest checkpoint was saved together with are in its order."""
        saved = facts_of(self.folder / CHECKPOINT).get("together", [])
        return [name for name in members if name in saved] == [name for name in saved if name in members]

    def _by_checkpoint(self) -> tuple[int | None, int | None]:
        """The size and checksum of the log that the newest checkpoint covers."""
        metrics = facts_of(self.folder / CHECKPOINT).get("metrics", [])[:2]
        size, crc = metrics if len(metrics) == 2 else (None, None)
        return (size, crc) if isinstance(size, int) and isinstance(crc, int) else (None, None)

    def _compare(self, file: str, facts: os.stat_result, size: int, crc: int, time: Any, words: str) -> None:
        """Read `size` bytes of a file, unless it was, and compare their checksum."""
        if time == facts.st_mtime_ns and not self.everything:
            return
        if not self._is_new(file, facts, [size, crc]):
            return
        try:
            same = has_checksum(self.folder / file, size, crc)
        except OSError as error:
            self._cannot_read(file, error)
            return
        if same:
            self._note(file, facts, [size, crc])
        else:
            self.problems[file] = words

    def _is_new(self, file: str, facts: os.stat_result, against: list[int]) -> bool:
        if self.everything or self.notes is None:
            return True
        return not self.notes.holds(self.name, _key(file, against), _noted(facts, against))

    def _note(self, file: str, facts: os.stat_result, against: list[int]) -> None:
        if self.notes is not None:
            self.notes.add(self.name, _key(file, against), _noted(facts, against))

    def _cannot_read(self, file: str, error: Exception) -> None:
        missing = isinstance(error, FileNotFoundError)
        self.problems[file] = "missing" if missing else f"cannot be read: {reason(error)}"
        self.unreadable.add(file)


def _key(file: str, against: list[int]) -> str:
    return file if len(against) > 1 else f"{file} owner"


def _noted(facts: os.stat_result, against: list[int]) -> list[int]:
    return [facts.st_size, facts.st_mtime_ns, *against]


def _is_filled(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False


def _states_another(content: bytes, recorded: Mapping[str, Any]) -> str:
    """Which line of `config.yaml` says another run or seed than `identity.json`; empty if none does.

    Of the rest only who reads the YAML can tell (`identity.disagreement`).
    """
    known = {b"run": str(recorded["name"]), b"seed": str(recorded["seed"])}
    for key, value in STATED.findall(content):
        if not _is_same(value.decode(), known[key]):
            return f"says {key.decode()}: {value.decode()}, and {IDENTITY} {known[key]} (edited?)"
    return ""


def _is_same(stated: str, known: str) -> bool:
    """Also 1.0 and 1: earlier versions stored a seed as it was typed."""
    return stated == known or re.fullmatch(rf"{known}\.0*", stated) is not None


def _is_configuration(content: bytes) -> bool:
    """As far as it can be told without reading YAML: what is not was damaged, and not edited."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"seed" in dict(STATED.findall(content)) and b"\nbenchmark:" in content and b"\0" not in content
