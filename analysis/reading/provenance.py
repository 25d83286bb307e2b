"""Where the runs of a sweep come from: code, versions, machines, times; what provenance.json tells, but the diff."""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lop_sweeps.regular_file import read_bytes

# Seconds since 1970.
Interval = tuple[float, float]
# Host and process; of a run from elsewhere its folder.
Process = tuple[object, ...]
# A time after the year 9999 is none.
LATEST = 253_402_300_799


@dataclass
class Provenance:
    """What is recorded of a run's latest session, counted over runs, and the times of all sessions.

    recorded: of `runs` those with a readable provenance.json. commits: (commit, changes) → runs; changes: a short hash
    of the uncommitted diff, '' without one, None where it is not told, as in a run from elsewhere. machines: (CPU,
    cores, system) → hosts. versions: package → version → runs. engines: sessions. sessions, open: all, and those
    without an end, which are in no time below. began, ended: the first and the last time, seconds since 1970.
    run_seconds: all sessions' times added up, one per run, however many ran at once. process_seconds: the time in which
    a process trained at least one run, added up over processes.
    """

    runs: int = 0
    recorded: int = 0
    commits: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    machines: dict[tuple[str, str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    versions: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    engines: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    open: int = 0
    began: float | None = None
    ended: float | None = None
    run_seconds: float = 0.0
    process_seconds: float = 0.0


def collect(folders: Iterable[Path]) -> Provenance:
    """Reads `provenance.json` of each run; what is absent, or not what it should be, counts as not recorded."""
    found = Provenance()
    intervals: dict[Process, list[Interval]] = defaultdict(list)
    for folder in folders:
        found.runs += 1
        record = _read(folder / "provenance.json")
        if not record:
            continue
        found.recorded += 1
        _add_code(found, record)
        machine = _mapping(record.get("machine"))
        if machine:
            kind = tuple(_text(machine.get(key)) for key in ("cpu", "cores", "system"))
            found.machines[kind[0], kind[1], kind[2]][_text(machine.get("host"))] += 1
        for session in _list(record.get("sessions")):
            process = (machine["host"], session["pid"]) if "host" in machine and "pid" in session else (folder,)
            _add_session(found, session, intervals[tuple(map(str, process))])
    found.process_seconds = sum(map(_covered, intervals.values()))
    return found


def _add_code(found: Provenance, record: Mapping[str, Any]) -> None:
    diff = record.get("diff")
    changes = str(diff) and hashlib.sha256(str(diff).encode("utf-8", "replace")).hexdigest()[:8]
    if commit := record.get("commit"):
        found.commits[_text(commit), None if diff is None else changes] += 1
    versions = {"Python": record.get("python"), "lop_sweeps": record.get("lop_sweeps")}
    for package, version in {**versions, **_mapping(record.get("packages"))}.items():
        if version:
            found.versions[str(package)][_text(version)] += 1


def _add_session(found: Provenance, session: Mapping[str, Any], intervals: list[Interval]) -> None:
    found.sessions += 1
    if session.get("engine"):
        found.engines[_text(session["engine"])] += 1
    began, ended = _time(session.get("began")), _time(session.get("ended"))
    if began is not None:
        found.began = min(began, found.began or began)
    if began is None or ended is None or ended < began:
        found.open += 1
        return
    found.ended = max(ended, found.ended or ended)
    found.run_seconds += ended - began
    intervals.append((began, ended))


def _covered(intervals: Iterable[Interval]) -> float:
    """Seconds that lie in at least one interval."""
    total, until = 0.0, -math.inf
    for began, ended in sorted(intervals):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(read_bytes(path)))
    except (OSError, ValueError, RecursionError):
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return "unknown" if value in (None, "") else str(value)


def _time(value: object) -> float | None:
    valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LATEST
    return float(value) if valid else None  # type: ignore[arg-type]
