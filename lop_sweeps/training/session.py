"""What a pack of runs is while it trains: its members, its position, its clock, and their checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lop_sweeps.diagnostics.measure import LayerSample
from lop_sweeps.errors import LogChanged
from lop_sweeps.training import checkpoint
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.metrics_log import MetricsLog


@dataclass
class Member:
    """A run's place in a pack. Inactive members keep their slot, masked, and write nothing.

    durable: what `MetricsLog.record` says of the log that the checkpoints of the whole pack cover, and that no kill
    takes back. failure: why it was taken out of the pack. keep: tasks from before which its learning state is kept.
    """

    directory: Path
    seed: int
    log: MetricsLog | None = None
    active: bool = True
    diverged: tuple[int, int] | None = None  # (task, step) at which its loss was no longer finite
    durable: dict[str, int] = field(default_factory=lambda: {"rows": 0, "bytes": 0, "crc32": 0})
    failure: LogChanged | None = None
    keep: frozenset[int] = frozenset()


@dataclass
class Position:
    """Where a pack is, and what the current task has added up so far; each tensor has a leading run dimension.

    sums: by name; every protocol has `loss` (runs,) and `magnitude` (runs, weight matrices), summed over `samples`.
        Names that begin with best/ hold learning state.
    memories: diagnostic -> what it remembers of each run, by name.
    """

    task: int = 0
    step: int = 0  # within the task
    before: list[dict[str, Any]] = field(default_factory=list)  # diagnostics before the task, per run
    sums: dict[str, Tensor] = field(default_factory=dict)
    samples: int = 0  # of the weight magnitude
    memories: dict[str, list[dict[str, Tensor]]] = field(default_factory=dict)

    def finite(self) -> Tensor:
        """(runs,): whether everything that was measured in the task so far is a number."""
        measured = [value for name, value in self.sums.items() if not name.startswith("best/")]
        return torch.stack([torch.isfinite(value).view(len(value), -1).all(1) for value in measured]).all(0)

    def payload(self, run: int) -> dict[str, Any]:
        """One run's share, for its checkpoint."""
        return {
            "task": self.task,
            "step": self.step,
            "before": json.dumps(self.before[run]) if self.step else "{}",
            "sums": {name: _kept(value[run]) for name, value in self.sums.items()} if self.step else {},
            "samples": self.samples if self.step else 0,
            "memories": {
                name: {key: _kept(value) for key, value in of_runs[run].items()}
                for name, of_runs in self.memories.items()
            },
        }

    @staticmethod
    def restore(payloads: Sequence[dict[str, Any] | None]) -> Position:
        """The position that the checkpoints of a pack's active runs (None for the others) have in common."""
        first = next(payload for payload in payloads if payload is not None)
        position = Position(first["task"], first["step"], samples=first["samples"])
        found = [_memories(payload) if payload else {} for payload in payloads]
        for name in dict.fromkeys(name for memories in found for name in memories):
            position.memories[name] = [dict(memories.get(name, {})) for memories in found]
        if position.step:
            position.before = [json.loads(payload["before"]) if payload else {} for payload in payloads]
            for name, value in first["sums"].items():
                like = torch.zeros_like(value)
                position.sums[name] = torch.stack([p["sums"][name] if p else like for p in payloads])
        return position


def _memories(payload: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """What a checkpoint has of the diagnostics' memories; older ones have which units were dead, or nothing."""
    if dead := payload.get("dead"):
        return {"deaths": {str(layer): mask for layer, mask in enumerate(dead)}}
    memories: dict[str, dict[str, Tensor]] = payload.get("memories", {})
    return memories


@dataclass
class Clock:
    """When checkpoints are due: the first after `first` seconds, then every `every` seconds."""

    first: float
    every: float
    start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.due = self.start + self.first

    def rings(self) -> bool:
        if (now := time.monotonic()) < self.due:
            return False
        self.due = now + self.every
        return True


Follow = Callable[[Tensor, Tensor, Tensor], None]


class Stage(Protocol):
    """One task of a pack, as a protocol (`online`, `epochs`, `control`) lets it be learned.

    benchmark: what the task is of, its data loaded. follow: told of each stretch of updates: losses and accuracies
    before each, (updates, runs), and how many examples of the task there are after each, (updates,). batch_size:
    examples of an update. statistics_of: of batches of at most how many examples the network normalises by the
    statistics when it is probed; None: it is in evaluation mode.
    """

    benchmark: Any
    follow: Follow | None
    batch_size: int
    statistics_of: int | None

    def probe(self) -> list[LayerSample]:
        """Hidden activations on inputs of the task, before it is learned."""

    def probe_inputs(self, run: int) -> Tensor:
        """(samples, inputs): what a run is probed on; asked for after `probe`."""

    def probe_loss(self, run: int, output: Tensor, rows: slice) -> Tensor:
        """What has the gradient of the mean loss; output: a network's, (n, outputs), of these rows of the probe."""

    def answers(self, run: int, output: Tensor) -> Tensor:
        """Of outputs (n, outputs), those that are asked for."""

    def trial(self, learner: Any, updates: int) -> Tensor:
        """Losses (updates, runs) of another learner of these runs, before each of its first updates.

        On what the stream never shows. They are fewer where a task is shorter, and NaN once a network is not finite.
        """

    def begin(self) -> dict[str, Tensor]:
        """Whatever the protocol and the interventions do before a task; the sums of `Position`, all zero."""

    def learn(self, position: Position, left: int) -> None:
        """Some intervals of updates from `position`, which moves; there are `left` updates to the end of the task."""

    def end(self, position: Position) -> list[dict[str, Any]]:
        """Whatever the protocol does after the last update; what it measured, for each run."""


def before_task(learner: Learner, run: int, task: int) -> None:
    """Let the interventions do to a run what they do before a task."""
    for intervention in learner.active:
        if act := getattr(intervention, "before_task", None):
            act(run, task)


class World(Protocol):
    """What a run acts in, where it acts."""

    def payload(self, run: int) -> dict[str, Any]: ...

    def restore(self, run: int, payload: dict[str, Any]) -> None: ...


def save(learner: Learner, members: Sequence[Member], position: Position, world: World | None) -> None:
    """Write a checkpoint of every active run. One whose log somebody else has changed is taken out of the pack."""
    state = learner.state()
    for run, member in enumerate(members):
        if member.active and member.log is not None:
            try:
                member.log.sync()
            except LogChanged as error:
                member.active, member.failure = False, error
                learner.mask(run)
    together = [member.directory.name for member in members if member.active]
    for run, member in enumerate(members):
        if member.active and member.log is not None:
            covered = {"metrics": list(member.log.position), "together": together}
            checkpoint.save(member.directory, _payload(run, member, covered, position, state, world))
    for member in members:
        if member.active and member.log is not None:
            member.durable = member.log.record


def keep(learner: Learner, members: Sequence[Member], position: Position, world: World | None) -> None:
    """Write a snapshot of every active run that is to have one from before the task at `position`."""
    wanted = [run for run, member in enumerate(members) if member.active and position.task in member.keep]
    if not wanted:
        return
    state = learner.state()
    for run in wanted:
        checkpoint.keep(members[run].directory, _payload(run, members[run], {}, position, state, world))


def _payload(
    run: int,
    member: Member,
    covered: dict[str, Any],
    position: Position,
    state: dict[str, Tensor],
    world: World | None,
) -> dict[str, Any]:
    """What is saved of a run; covered: what is said of its log and its pack."""
    payload = {
        "run": member.directory.name,
        **covered,
        **position.payload(run),
        "learner": {name: _kept(value[run]) for name, value in state.items()},
    }
    return payload if world is None else {**payload, "world": world.payload(run)}


def _kept(value: Tensor) -> Tensor:
    """A copy on the host: a checkpoint can be read where there is no GPU."""
    return value.detach().clone().cpu()


def restore(learner: Learner, payloads: Sequence[dict[str, Any] | None], world: World | None = None) -> None:
    """Put the learning state of checkpoints (None for inactive runs) into a pack, and its world as it was."""
    for run, payload in enumerate(payloads):
        if payload is not None:
            learner.load(run, payload["learner"])
            if world is not None:
                world.restore(run, payload["world"])
