"""One method's way through the rungs: values, decisions, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lop_sweeps.selection.halving import Floats, Rung, going_on, ranked, stability
from lop_sweeps.selection.methods import Setting
from lop_sweeps.selection.record import SUMMARIES, rows_of
from lop_sweeps.selection.study import Study


class Result:
    """One method: what its rungs gave. left: the settings that are still in, best first once something is decided."""

    def __init__(self, study: Study, name: str) -> None:
        self.study, self.name, self.candidates = study, name, study.candidates[name]
        self.left = list(range(len(self.candidates)))
        self.tables: list[tuple[Rung, list[int], Floats]] = []  # rung, settings in it, values of all settings
        self.order: list[int] = []

    @cached_property
    def larger_is_better(self) -> bool:
        from lop_sweeps.analysis.names.quantity import quantity

        return quantity(self.study.metric).larger_is_better

    def decide(self, rung: Rung, *, last: bool) -> None:
        entered = sorted(self.left)
        values = np.full((len(self.candidates), len(self.study.asked.tuning.seeds)), np.nan)
        for at in entered:
            values[at] = [self._value(run, rung) for run in self.candidates[at].runs]
        self.order = [entered[i] for i in ranked(values[entered], larger_is_better=self.larger_is_better)]
        self.left = self.order[: going_on(len(entered), self.study.asked.tuning.keep, last=last)]
        self.tables.append((rung, entered, values))

    def _value(self, run: Path, rung: Rung) -> float:
        """A run's summary over the first tasks; NaN if it diverged within them."""
        from lop_sweeps.analysis.statistics.curve_summary import summarise

        rows = rows_of(run)[: rung.tasks]
        series = np.array([[float(row.get(self.study.metric, np.nan)) for row in rows]])
        if len(rows) < rung.tasks or not np.isfinite(series).all():
            return float("nan")
        return float(summarise(series)[SUMMARIES[self.study.asked.tuning.by]][0])

    def content(self) -> dict[str, Any]:
        """For `select.json`."""
        label = {at: one.setting.label for at, one in enumerate(self.candidates)}
        made = [
            {
                "tasks": rung.tasks,
                "values": {
                    label[at]: [None if np.isnan(value) else float(value) for value in values[at]] for at in entered
                },
                "kept": [label[at] for at in self._kept(i)],
            }
            for i, (rung, entered, values) in enumerate(self.tables)
        ]
        found: dict[str, Any] = {"points": self.candidates[0].method.points, "rungs": made}
        if self.tables:
            found |= {"metric": self.study.metric, "larger_is_better": self.larger_is_better}
        if len(self.left) == 1:
            found |= {
                "chosen": label[self.left[0]],
                "runner_up": label[self.order[1]] if len(self.order) > 1 else "",
                "edge": edge([one.setting for one in self.candidates], self.candidates[self.left[0]].setting),
                "stability": self.stability(),
                "tuning_tasks": sum(
                    len(entered) * values.shape[1] * (rung.tasks - before)
                    for (rung, entered, values), before in zip(
                        self.tables, [0, *(rung.tasks for rung, _, _ in self.tables)], strict=False
                    )
                ),
            }
        return found

    def _kept(self, number: int) -> list[int]:
        return self.tables[number + 1][1] if number + 1 < len(self.tables) else sorted(self.left)

    def stability(self) -> float:
        entered = [settings for _, settings, _ in self.tables]
        values = [values for _, _, values in self.tables]
        return stability(values, entered, self.left[0], larger_is_better=self.larger_is_better) if values else 1.0

    def words(self) -> str:
        found = self.content()
        text = f"{self.name}: {found['chosen'] or 'its one setting'}"
        if not self.tables:
            return text
        second = f"; the runner-up is {found['runner_up']}" if found["runner_up"] else ""
        beyond = f"; {found['edge']}, so a better value may lie beyond" if found["edge"] else ""
        return f"{text}, which {found['stability']:.0%} of resampled tuning seeds choose{second}{beyond}"


def edge(tried: Sequence[Setting], chosen: Setting) -> str:
    """'step_size=0.1 is the largest of 3': hyper-parameters of which the chosen value is at the end of those tried."""
    values: dict[str, set[float]] = {}
    for setting in tried:
        for key, value in _numbers(setting).items():
            values.setdefault(key, set()).add(value)
    told = []
    for key, value in _numbers(chosen).items():
        of_key = sorted(values[key])
        if len(of_key) > 1 and value in (of_key[0], of_key[-1]):
            end = "smallest" if value == of_key[0] else "largest"
            told.append(f"{key.rpartition('.')[2]}={value:g} is the {end} of {len(of_key)}")
    return "; ".join(told)


def _numbers(setting: Setting) -> dict[str, float]:
    found = {}
    for line in setting.overrides:
        key, _, text = line.partition("=")
        try:
            found[key] = float(text)
        except ValueError:
            continue
    return found
