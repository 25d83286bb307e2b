"""Is the folder of a run itself? What its files must agree on, whoever touched them; by the files alone.

| file          | must                                                                                           |
|---------------|------------------------------------------------------------------------------------------------|
| the folder    | have the name that is the hash of `identity.json`                                              |
| config.yaml   | have the bytes whose SHA-256 `identity.json` records, and state what it is the identity of      |
| status.json   | be readable, and name the run                                                                  |
| metrics.jsonl | begin with the rows, bytes and checksum that `status.json` records; of a finished run, be that |
| checkpoint.pt | name the run; of a finished run, have the recorded bytes and checksum; cover what the log has  |

Whether it is also what today's code would train is another question (`identity.compare`).

Reading is not repeated: a log or checkpoint whose size and time are those that were recorded, or that an earlier check
noted in the sweep's folder, is taken as checked. Runs from before all this have their log's size and checksum in the
checkpoint, or its size in `status.json`; what is nowhere is *not recorded*, which is no fault.

Imports nothing that takes time: `lop-status` looks at ten thousand runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lop_sweeps.durable import write_atomically
from lop_sweeps.regular_file import read_bytes
from lop_sweeps.training.checkpoint_file import CHECKPOINT, PREVIOUS, facts_of, is_whole, name_of, owner_of

IDENTITY, CONFIG, STATUS, LOG = "identity.json", "config.yaml", "status.json", "metrics.jsonl"
OTHERS = (
    PREVIOUS,
    "pack.json",
    "provenance.json",
    "job.json",
    "mirror.json",
    "diagnostics.json",
)  # read only if everything is
NOTES = ".checked.json"
STATES = ("waiting", "running", "done", "diverged", "failed")
FINAL = ("done", "diverged")
NUMBERS = ("task", "step", "num_tasks", "steps", "total_steps", "steps_per_task", "durable", "rate", "return")
NAMED = re.compile(r"-seed(\d+)-[0-9a-f]{12}$")
STATED = re.compile(rb"^(run|seed): *([\w.+-]+)\r?$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a run's folder: file -> a few words; nothing if it is itself.

    unreadable: those of the files that are missing or damaged, not different. unrecorded: what nothing tells, so that
    it cannot be checked. identity: what `identity.json` holds. status: what `status.json` says.
    """

    folder: Path
    problems: Mapping[str, str] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()
    unrecorded: tuple[str, ...] = ()
    identity: Mapping[str, Any] | None = None
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def problem(self) -> str:
        """One line: the first thing that is wrong; empty if nothing is."""
        return self._of(IDENTITY, CONFIG, STATUS, LOG, CHECKPOINT, *OTHERS)

    @property
    def of_results(self) -> str:
        """The first thing wrong with what figures show."""
        return self._of(IDENTITY, CONFIG, STATUS, LOG)

    @property
    def of_experiment(self) -> str:
        """The first thing wrong with what the run is said to be: nothing may be trained or loaded by it."""
        return self._of(IDENTITY, CONFIG)

    @property
    def refuses(self) -> bool:
        """Whether nothing may be trained here: what is different was somebody's wish, what is damaged is mended."""
        wrong = {file for file in (IDENTITY, CONFIG) if file in self.problems}
        return bool(wrong) and (self.status.get("state") in FINAL or not wrong <= self.unreadable)

    def _of(self, *files: str) -> str:
        return next((f"{file}: {self.problems[file]}" for file in files if file in self.problems), "")


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def run_name(science: Mapping[str, Any], seed: int) -> str:
    """`<modules of the interventions, or backprop>-seed<n>-<hash>`."""
    names = [part["target"].split(".")[-2] for part in science["algorithm"]]
    return f"{'+'.join(names) or 'backprop'}-seed{seed}-{digest([science, seed])}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stamp(path: Path) -> dict[str, int]:
    """What is recorded of a file; raises OSError."""
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        return {"bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns, "crc32": _crc(file, facts.st_size)}


def has_checksum(path: Path, size: int, crc: int | None) -> bool:
    """Whether the first `size` bytes of a file have this checksum; raises OSError."""
    with path.open("rb") as file:
        return _crc(file, size) == crc


def run_folders(sweep: Path) -> Iterator[Path]:
    """The folders in a sweep's folder that hold a run, or what is left of one, by name."""
    for name in sorted(os.listdir(sweep)):
        if not name.startswith(".") and holds_a_run(path := sweep / name):
            yield path


def holds_a_run(path: Path) -> bool:
    """Whether there is any file of a run; a folder that may not be entered is judged by its name."""
    for name in (CONFIG, IDENTITY, STATUS, LOG):
        try:
            os.lstat(f"{path}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # may not be entered, say: whoever reads it will say so
            return NAMED.search(path.name) is not None
        return True
    return False


class Notes:
    """What earlier checks of a sweep's runs have read, beside them. Damaged or unwritable notes are none.

    Used as a context: what was learned is kept at its end.
    """

    def __init__(self, sweep: Path) -> None:
        self.path = sweep / NOTES
        self._known = self._read()
        self._new: dict[str, Any] = {}

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(read_bytes(self.path))
        except (OSError, ValueError, RecursionError):
            return {}
        return known if isinstance(known, dict) else {}

    def holds(self, run: str, file: str, facts: list[int]) -> bool:
        known = self._known.get(f"{run}/{file}")
        return isinstance(known, list) and known == facts

    def add(self, run: str, file: str, facts: list[int]) -> None:
        self._known[f"{run}/{file}"] = self._new[f"{run}/{file}"] = facts

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._new:
            with contextlib.suppress(OSError):  # somebody else's sweep, which may only be read
                write_atomically(self.path, json.dumps(self._read() | self._new) + "\n")
            self._new = {}


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


def read_identity(folder: Path) -> dict[str, Any]:
    """What `identity.json` holds, and the `name` that it is hashed to; raises OSError, or ValueError."""
    content = json.loads(read_bytes(f"{folder}/{IDENTITY}"))
    try:
        if isinstance(content["sha256"], str):
            return {**content, "name": run_name(content["science"], content["seed"])}
    except (KeyError, TypeError, IndexError, AttributeError):
        pass
    raise ValueError("it does not hold an identity")


def read_status(folder: Path) -> tuple[dict[str, Any], str]:
    """What `status.json` says, and what is wrong with it: if anything is, the run is looked at anew, as waiting."""
    anew: dict[str, Any] = {"state": "waiting", "task": 0}
    try:
        status = json.loads(read_bytes(f"{folder}/{STATUS}"))
    except FileNotFoundError:
        return anew, ""
    except (OSError, ValueError, RecursionError) as error:
        return anew, f"cannot be read: {_reason(error)}"
    if not isinstance(status, dict) or status.get("state") not in STATES:
        return anew, "does not hold a status"
    if bad := next((key for key in NUMBERS if not _is_number(status.get(key))), None):
        return anew, f"does not hold a status: {bad} is {str(status[bad])[:40]!r}"
    if status.get("run", name := name_of(folder)) != name:
        return anew, f"of another run, {str(status['run'])[:200]}"
    return status, ""


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value) and abs(value) < 2**62)


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
        if record.get("rows") != task:
            self.problems[STATUS] = f"counts {task} tasks and {record.get('rows')} rows"
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
        self.problems[file] = "missing" if missing else f"cannot be read: {_reason(error)}"
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


def _crc(file: Any, size: int) -> int:
    crc = 0
    while size > 0 and (content := file.read(min(size, 2**20))):
        crc, size = zlib.crc32(content, crc), size - len(content)
    return crc


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


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
