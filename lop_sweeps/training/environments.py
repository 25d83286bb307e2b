"""The environments of a pack's runs: stepped together, their episodes counted, their state saved with the runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lop_sweeps import streams
from lop_sweeps.benchmarks.benchmark import ControlBenchmark, ControlEnvironment
from lop_sweeps.training.session import Member

Floats = NDArray[np.float64]
LATEST = 20


@dataclass
class Place:
    """One environment, and where it is in its episode. change: how often it has changed, the last time at `changed`
    steps of the run. offset (inputs,): what is added to its observations; None: nothing.
    """

    environment: ControlEnvironment
    episode_return: float = 0.0
    length: int = 0
    change: int = 0
    changed: int = 0
    offset: Floats | None = None

    def shown(self, observation: Floats) -> Floats:
        """What an agent sees of an observation."""
        return observation if self.offset is None else observation + self.offset


class Environments:
    """`count` environments for each run; those of inactive runs stand still and show zeros.

    observations (runs, count, inputs): what the next actions answer to. rewards, terminated, truncated (runs, count):
    of the last step. cut: the last observations of the episodes that it truncated, by (run, environment).
    finished: of each run, the episodes that ended since `clear`: (steps of the run, return, length).
    changes: of each run, the changes since `clear`: (steps of the run, friction). latest: of each run, the returns of
    its latest episodes in this process, to be shown while it trains.
    """

    def __init__(self, benchmark: ControlBenchmark, members: Sequence[Member], count: int) -> None:
        self.benchmark, self.members, self.count = benchmark, members, count
        runs = len(members)
        self.steps = 0  # of each run
        self.observations = np.zeros((runs, count, benchmark.inputs))
        self.rewards = np.zeros((runs, count))
        self.terminated, self.truncated = np.zeros((runs, count), bool), np.zeros((runs, count), bool)
        self.cut: dict[tuple[int, int], Floats] = {}
        self.finished: list[list[tuple[float, ...]]] = [[] for _ in members]
        self.changes: list[list[tuple[float | None, ...]]] = [[] for _ in members]
        self.latest: list[deque[float]] = [deque(maxlen=LATEST) for _ in members]
        self.places: list[list[Place]] = [
            self._begin(run) if member.active else [] for run, member in enumerate(members)
        ]

    def _begin(self, run: int) -> list[Place]:
        seed = self.members[run].seed
        places = []
        for i in range(self.count):
            place = Place(self.benchmark.make_environment())
            self._enter(run, place)
            first = int(streams.generator(seed, "environment", i).integers(2**31))
            self.observations[run, i] = place.shown(place.environment.reset(first))
            places.append(place)
        return places

    def _enter(self, run: int, place: Place) -> float | None:
        """Make of an environment what it is after `place.change` changes; its friction, if it has one."""
        seed = self.members[run].seed
        place.offset = self.benchmark.offset(seed, place.change)
        friction = self.benchmark.friction(seed, place.change)
        if friction is not None:
            place.environment.set_friction(friction)
        return friction

    def begin_rollout(self) -> list[int]:
        """Where a change is due it comes now, with a new episode; the runs whose (first) environment has changed."""
        changed = []
        for run, member in enumerate(self.members):
            for i, place in enumerate(self.places[run] if member.active else ()):
                if place.length == 0 and self.benchmark.change_due(self.steps - place.changed):
                    place.change, place.changed = place.change + 1, self.steps
                    self._enter(run, place)
                    self.observations[run, i] = place.shown(place.environment.reset())
                    changed += [run] if i == 0 else []
        return changed

    def step(self, actions: NDArray[Any], *, cut: bool = False) -> None:
        """Take actions (runs, count, actions); where an episode ends, the next one begins. cut: all of them end."""
        self.cut.clear()
        limit = self.benchmark.max_episode_steps
        for run, member in enumerate(self.members):
            if not member.active:
                self.observations[run], self.rewards[run] = 0.0, 0.0
                self.terminated[run] = self.truncated[run] = False
                continue
            for i, place in enumerate(self.places[run]):
                observation, reward, terminated = place.environment.step(actions[run, i])
                observation = place.shown(observation)
                place.episode_return += reward
                place.length += 1
                truncated = not terminated and (place.length == limit or cut)
                self.rewards[run, i], self.terminated[run, i], self.truncated[run, i] = reward, terminated, truncated
                if truncated:
                    self.cut[run, i] = observation
                if terminated or truncated:
                    observation = self._next_episode(run, i, place)
                self.observations[run, i] = observation
        self.steps += self.count

    def _next_episode(self, run: int, i: int, place: Place) -> Floats:
        steps = self.steps + i + 1
        self.latest[run].append(place.episode_return)
        self.finished[run].append((steps, place.episode_return, place.length))
        place.episode_return, place.length = 0.0, 0
        if not self.benchmark.new_episode_each_rollout and self.benchmark.change_due(steps - place.changed):
            place.change, place.changed = place.change + 1, steps
            friction = self._enter(run, place)
            if i == 0 and place.offset is None:  # the log has its level in another way
                self.changes[run].append((steps, friction))
        return place.shown(place.environment.reset())

    def change(self, run: int) -> int:
        """How often a run's environment has changed (the first, if it has several)."""
        return self.places[run][0].change if self.places[run] else 0

    def clear(self) -> None:
        """Forget the episodes and changes that have been written down."""
        for finished, changes in zip(self.finished, self.changes, strict=True):
            finished.clear()
            changes.clear()

    def payload(self, run: int) -> dict[str, Any]:
        """A run's share, for its checkpoint."""
        kept = ("episode_return", "length", "change", "changed")
        places = [
            {
                "environment": place.environment.state(),
                **{name: getattr(place, name) for name in kept},
                "observation": torch.from_numpy(seen.copy()),
            }
            for place, seen in zip(self.places[run], self.observations[run], strict=True)
        ]
        finished, changes = map(list, self.finished[run]), map(list, self.changes[run])
        return {"steps": self.steps, "places": places, "finished": list(finished), "changes": list(changes)}

    def restore(self, run: int, payload: dict[str, Any]) -> None:
        """Put back what `payload` gave."""
        self.steps = payload["steps"]
        self.finished[run] = [tuple(event) for event in payload["finished"]]
        self.changes[run] = [tuple(change) for change in payload["changes"]]
        for i, (place, saved) in enumerate(zip(self.places[run], payload["places"], strict=True)):
            place.environment.load(saved["environment"])
            self.observations[run, i] = saved["observation"].numpy()
            place.episode_return, place.length = saved["episode_return"], saved["length"]
            place.change, place.changed = saved["change"], saved["changed"]
            place.offset = self.benchmark.offset(self.members[run].seed, place.change)

    def begin_at(self, run: int, payload: dict[str, Any]) -> None:
        """Fresh episodes of the run's own seed, after as many steps and changes as another run's `payload` tells of."""
        self.steps = payload["steps"]
        for i, (place, saved) in enumerate(zip(self.places[run], payload["places"], strict=True)):
            place.change, place.changed = saved["change"], saved["changed"]
            self._enter(run, place)
            if place.offset is not None:
                self.observations[run, i] = place.shown(place.environment.reset())
