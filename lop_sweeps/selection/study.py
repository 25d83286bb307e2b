"""A selection's runs, from what was asked: the candidates of each method, the rungs, the report, and what it all costs.

Tuning runs lie in `tuning/` of the sweep's folder, so that whoever reads the sweep reads the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lop_sweeps.errors import ConfigError, LopError
from lop_sweeps.selection.halving import Rung, going_on, rungs
from lop_sweeps.selection.methods import Method, Question, Setting, fewer
from lop_sweeps.selection.record import TUNING, rows_of
from lop_sweeps.sweeps.composer import Composer
from lop_sweeps.sweeps.planning import Point
from lop_sweeps.sweeps.sweeper import compose_points


@dataclass(frozen=True)
class Candidate:
    """A setting of a method. overrides: all of a run's but its seed, its length and its sweep. runs: their folders."""

    method: Method
    setting: Setting
    overrides: tuple[str, ...]
    runs: tuple[Path, ...]


class Study:
    """candidates: of each method, those that are tried. sweep: the folder's name. num_tasks: of the whole stream."""

    def __init__(self, composer: Composer, asked: Question) -> None:
        self.composer, self.asked = composer, asked
        first = composer.point(
            asked.methods[0].variant, self._lines(asked.methods[0], asked.methods[0].settings[0]), []
        )
        self.sweep = str(first.config["sweep"])
        self.folder, self.num_tasks = first.directory.path.parent, first.num_tasks
        self._key = next(key for key in ("num_steps", "num_tasks") if key in first.config["benchmark"])
        self._unit = int(first.config["benchmark"][self._key]) // self.num_tasks
        self.rungs, self.same = rungs(asked.tuning.shares, self.num_tasks, asked.tuning.share)
        self.candidates = self._candidates()

    def _lines(self, method: Method, setting: Setting) -> list[str]:
        return [*method.overrides, *setting.overrides, *self.asked.line]

    def _candidates(self) -> dict[str, list[Candidate]]:
        """Of each method its settings that are different runs, as many as the budget has.

        What only some methods have (a strength, say) is no setting of the others.
        """
        seed, tried = self.asked.tuning.seeds[0], [(one, of) for one in self.asked.methods for of in one.settings]
        lines = [(one.variant, [*self._lines(one, of), *self._place(seed)]) for one, of in tried]
        points, _ = compose_points(self.composer, lines, quiet=True)
        different: dict[str, dict[Path, Setting]] = {one.name: {} for one in self.asked.methods}
        for (method, setting), point in zip(tried, points, strict=True):
            different[method.name].setdefault(point.directory.path, setting)
        return {one.name: self._budget(one, list(different[one.name].values())) for one in self.asked.methods}

    def _budget(self, method: Method, settings: Sequence[Setting]) -> list[Candidate]:
        tuning, found = self.asked.tuning, []
        method = replace(method, points=min(method.points, len(settings)))
        for setting in fewer(method, settings, tuning):
            absent: list[str] = []
            lines = tuple(self._lines(method, setting))
            self.composer.point(method.variant, [*lines, *self._place(tuning.seeds[0])], absent)
            setting = Setting.of([line for line in setting.overrides if line not in absent])
            runs = tuple(self._point(method, lines, seed, None).directory.path for seed in tuning.seeds)
            found.append(Candidate(method, setting, lines, runs))
        short = self._point(method, found[0].overrides, tuning.seeds[0], self.rungs[0].tasks)
        if short.directory.path != found[0].runs[0]:
            allowed = "must be [1]: how long this stream is decides what its tasks are, so its runs cannot be extended"
            raise ConfigError("tuning.shares", list(tuning.shares), allowed)
        return found

    def _place(self, seed: int, tasks: int | None = None, *, report: bool = False) -> list[str]:
        length = [] if tasks is None else [f"benchmark.{self._key}={tasks * self._unit}"]
        name = self.sweep if report else f"{self.sweep}/{TUNING}"
        return [*length, f"sweep='{name}'", f"seed={seed}"]

    def _point(
        self, method: Method, lines: Sequence[str], seed: int, tasks: int | None, *, report: bool = False
    ) -> Point:
        return self.composer.point(method.variant, [*lines, *self._place(seed, tasks, report=report)], [])

    def points(self, candidate: Candidate, rung: Rung) -> list[Point]:
        return [
            self._point(candidate.method, candidate.overrides, seed, rung.tasks) for seed in self.asked.tuning.seeds
        ]

    def report(self, name: str, at: int) -> list[Point]:
        """The runs that are reported of a method if this setting is chosen."""
        one = self.candidates[name][at]
        return [self._point(one.method, one.overrides, seed, None, report=True) for seed in self.asked.seeds]

    @cached_property
    def question(self) -> dict[str, Any]:
        """What must stay as it is for a selection to go on: all but the seeds of the report."""
        tuning = self.asked.tuning
        return {
            "tuning": {**vars(tuning), "seeds": list(tuning.seeds), "shares": list(tuning.shares)},
            "num_tasks": self.num_tasks,
            "rungs": [rung.tasks for rung in self.rungs],
            "settings": {
                name: {one.setting.label: [run.name for run in one.runs] for one in candidates}
                for name, candidates in self.candidates.items()
            },
        }

    @cached_property
    def metric(self) -> str:
        """What a benchmark's runs are compared by, as the analysis has it."""
        from lop_sweeps.analysis.names.metric import PERFORMANCE

        first = next(iter(self.candidates.values()))[0]
        point = self._point(first.method, first.overrides, self.asked.tuning.seeds[0], None)
        given = point.config["benchmark"].get("performance")
        runs = [run for candidates in self.candidates.values() for one in candidates for run in one.runs]
        row = next((rows[0] for run in runs if (rows := rows_of(run))), {})  # some have diverged in their first task
        for name in (*([given] if given else []), *PERFORMANCE):
            if name in row:
                return str(name)
        raise LopError(f"no run in {first.runs[0].parent} has logged a performance to choose by")

    # --- what it says ---

    def describe(self) -> str:
        """Methods, settings, rungs, and what they cost beside the report."""
        lines = [f"{self.folder}: a selection by the {self.asked.tuning.by} over the tasks, on seeds {self._seeds()}"]
        for share in self.same:
            lines.append(f"  one rung less: a share of {share:g} comes to the same number of tasks as the next")
        for name, found in self.candidates.items():
            points = found[0].method.points
            drawn = f" drawn from {points}" if points > len(found) else " drawn from ranges" if points == 0 else ""
            few = f", the whole grid (the budget is {self.asked.tuning.settings})" * (
                0 < points < self.asked.tuning.settings
            )
            lines.append(f"  {name}: {many(len(found), 'setting')}{drawn}{few}")
        per_seed = sum(self._tasks_of(len(found)) for found in self.candidates.values())
        tuning, report = per_seed * len(self.asked.tuning.seeds), len(self.candidates) * len(self.asked.seeds)
        lines.append(
            f"  {tuning} tasks of tuning, then {report * self.num_tasks} of the report: {many(report, 'run')} of "
            f"{self.num_tasks} tasks on {many(len(self.asked.seeds), 'seed')}"
        )
        return "\n".join(lines)

    def _seeds(self) -> str:
        return ", ".join(map(str, self.asked.tuning.seeds))

    def _tasks_of(self, settings: int) -> int:
        """Tasks that one seed of a method's rungs learns."""
        total, before = 0, 0
        for number, rung in enumerate(self.rungs):
            if settings < 2:
                break
            total, before = total + settings * (rung.tasks - before), rung.tasks
            settings = going_on(settings, self.asked.tuning.keep, last=number + 1 == len(self.rungs))
        return total

    def forecast(self) -> list[list[Point]]:
        """Runs of as many steps as the whole selection: which settings go on is not known, so the first ones do."""
        groups = []
        for found in self.candidates.values():
            settings = len(found)
            reach = {at: 0 for at in range(len(found))}
            for number, rung in enumerate(self.rungs):
                if settings < 2:
                    break
                reach |= dict.fromkeys(range(settings), rung.tasks)
                settings = going_on(settings, self.asked.tuning.keep, last=number + 1 == len(self.rungs))
            groups += [self.points(found[at], Rung(tasks, 0)) for at, tasks in reach.items() if tasks]
        return [*groups, *(self.report(name, 0) for name in self.candidates)]


def many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
